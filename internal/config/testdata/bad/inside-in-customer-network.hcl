node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
customer "acme" {
  networks = ["10.9.0.0/16"]
  senders  = ["acme.example"]
}
inside "mailroom" {
  address = "10.9.0.7:25"
  domains = ["replies.esp.example"]
  resends = false
}
