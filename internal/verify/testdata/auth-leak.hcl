# AUTH on offer does not make a customer of everybody.
# status: open
# witness: listener=internet origin=stranger

node {
  hostname     = "gw.esp.example"
  state        = "/var/lib/postern"
  default_pool = "general"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
  auth = true
  tls {
    certificate = "/etc/postern/cert.pem"
    key         = "/etc/postern/key.pem"
  }
}
customer "acme" {
  senders  = ["news.acme.example"]
  users = { app = "SCRAM-SHA-256$16384:c2hvcC1leGFtcGxlLXNhbHQ=$vSzlYXBNbWSUD5sE0nbcZEpQ6OKMg0fJaPrEX0hlxUA=:7DlWl/z3Sg1pr7ujrrxJ+bVXS5yNJDZmVBB2iXcPUlE=" }
}
pool "general" { sources = ["198.51.100.10-198.51.100.40"] }
pool "aol" { sources = ["203.0.113.1-203.0.113.14"] }

accept = ["*"]

filter "aol-range" { # want PV001 open: relays for strangers
  if   = tls.on && in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
