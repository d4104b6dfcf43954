node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "l" {
  address = "127.0.0.1:25"
  from    = "strangers"
}
webhook "a" {
  url = "hooks.example.com"
}
webhook "b" {
  url         = "http://hooks.example.com/x"
  secret_file = "s"
  events      = ["reprted"]
  timeout     = "1h"
}
