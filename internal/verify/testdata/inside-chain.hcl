# Two inside hosts: the first gives to the second, and that one relays.
# status: open
# witness: hops=3 origin=inside rcpt=@aol.com peer=10.2.0.10

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
inside "lists" {
  domains = ["lists.esp.example"]
  address = "10.2.0.10:25"
  resends = true
}

accept = ["corp.esp.example"]

filter "to-corp" {
  if   = origin == "stranger" && rcpt.domain == "corp.esp.example"
  then = deliver()
}

filter "to-lists" {
  if   = client.address == "10.2.0.9" && rcpt.domain == "lists.esp.example"
  then = deliver()
}

filter "aol-range" { # want PV002 open: relays what inside host "lists"
  if   = client.address == "10.2.0.10" && in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
