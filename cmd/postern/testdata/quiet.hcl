node {
  hostname = "gw.esp.example"
  state    = "nowhere"
}
listener "internet" {
  address = "127.0.0.1:2525"
  from    = "strangers"
}
