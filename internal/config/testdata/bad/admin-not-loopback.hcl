node {
  hostname = "gw.esp.example"
  state    = "state"
  admin    = "0.0.0.0:9025"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
