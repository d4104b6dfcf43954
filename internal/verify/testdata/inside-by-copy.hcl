# A copy to the inside host brings it there, too.
# status: open
# witness: hops=2 origin=inside

node {
  hostname     = "gw.esp.example"
  state        = "/var/lib/postern"
  default_pool = "general"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
listener "injection" {
  address = "10.0.0.5:25"
  from    = "customers"
}
customer "acme" {
  networks = ["10.1.0.0/16"]
  senders  = ["news.acme.example"]
}
pool "general" { sources = ["198.51.100.10-198.51.100.40"] }
pool "aol" { sources = ["203.0.113.1-203.0.113.14"] }
inside "corp" {
  domains = ["corp.esp.example"]
  address = "10.2.0.9:25"
  resends = true
}

accept = ["bounce.esp.example"]

filter "bounces" {
  if   = origin == "stranger"
  copy = "postmaster@corp.esp.example"
  then = drop()
}

filter "corp-out" { # want PV002 open: relays what inside host "corp"
  if   = origin == "inside"
  then = deliver()
}
