destination "one" {
  mx      = [".big.example", "*", "user@big.example"]
  domains = ["big example"]
}
destination "two" { mx = [".big.example"] }
destination "*" {
  mx = ["mx.example"]
  limits { connections = 5 }
}
destination "three" {
  limits "general" { connections = 5 }
}

node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
