# A copy to such an address.
# status: open

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

accept = ["bounce.esp.example"]
sinks = ["aol.com!joe@partner.example"] # want PV007 open: sink


filter "copies" {
  if   = origin == "customer"
  copy = "aol.com!joe@partner.example" # want PV007 open: copy
}
