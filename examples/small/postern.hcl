# A small sender: one application that signs in, one address, bounces and complaints.

node {
  hostname    = "mail.shop.example"
  state       = "/var/lib/postern"
  admin       = "127.0.0.1:9025"
  return_path = "bounce.shop.example"
}

# The Internet brings bounces and complaints, and nothing else.
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}

# The shop's application hands its mail over here.
listener "submission" {
  address = "0.0.0.0:587"
  from    = "customers"
  auth    = true
  tls {
    certificate = "/etc/postern/cert.pem"
    key         = "/etc/postern/key.pem"
  }
}

accept  = ["bounce.shop.example"]
reports = ["fbl@bounce.shop.example"]

customer "shop" {
  senders = ["shop.example", "news.shop.example"]
  users   = { app = "SCRAM-SHA-256$16384:c2hvcC1leGFtcGxlLXNhbHQ=$vSzlYXBNbWSUD5sE0nbcZEpQ6OKMg0fJaPrEX0hlxUA=:7DlWl/z3Sg1pr7ujrrxJ+bVXS5yNJDZmVBB2iXcPUlE=" }
}

# Complaints are believed from those who are named here.
provider "yahoo" { domains = ["arf.mail.yahoo.com"] }
provider "validity" { domains = ["feedback.senderscore.net"] }

pool "shop" { sources = ["198.51.100.25"] }

filter "drop-bounces" {
  if   = origin == "stranger" && rcpt.domain == "bounce.shop.example"
  log  = "bounce"
  then = drop()
}
