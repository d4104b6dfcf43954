node {
  hostname = "gw.esp.example"
  state    = "state"
  default_pool = "generale"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
