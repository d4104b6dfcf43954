# The second hole of 2008: a subdomain goes to an inside machine that sends on, and what it sends leaves over AOL's pool.
# status: open
# witness: hops=2 origin=inside rcpt=@aol.com first=someone@corp.esp.example

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

accept = ["corp.esp.example"]

filter "to-corp" {
  if   = rcpt.domain == "corp.esp.example"
  then = deliver()
}

filter "aol-range" { # want PV002 open: relays what inside host "corp"
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
