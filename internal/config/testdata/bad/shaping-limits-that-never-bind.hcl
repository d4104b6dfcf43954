destination "big" {
  mx = [".big.example"]
  limits {
    message_rate = ["100/1s", "1000/1h"]
    source_rate  = "2000/1h"
  }
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
