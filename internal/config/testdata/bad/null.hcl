node {
  hostname = "gw.esp.example"
  state    = "state"
  resolver = null
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
customer "acme" {
  senders  = [null]
  networks = ["10.0.0.0/24", null]
}
filter "mark" {
  if         = origin == "customer"
  set_header = { "X-Mark" = null }
}
