node {
  hostname = "gw.esp.example"
  state    = "state"
}
