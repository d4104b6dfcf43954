node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
inside "a" {
  address = "10.9.0.7:25"
  domains = ["*"]
  resends = false
}
