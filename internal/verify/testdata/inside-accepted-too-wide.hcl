# The apex is let in and has no inside host: handing it off is relaying.
# status: open
# witness: rcpt=@corp.esp.example

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
  domains = [".corp.esp.example"]
  address = "10.2.0.9:25"
  resends = false
}

accept = ["corp.esp.example", ".corp.esp.example"]

filter "to-corp" { # want PV001 open: relays for strangers
  if   = rcpt.domain == "corp.esp.example" || ends_with(rcpt.domain, ".corp.esp.example")
  then = deliver()
}
