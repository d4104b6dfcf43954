# This machine.

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
customer "acme" { # want PV004 warn: network 127.0.0.1/32, which is in 127.0.0.0/8: this machine
  networks = ["127.0.0.1"]
  senders  = ["news.acme.example"]
}
pool "general" { sources = ["198.51.100.10-198.51.100.40"] }
pool "aol" { sources = ["203.0.113.1-203.0.113.14"] }

accept = ["bounce.esp.example"]
