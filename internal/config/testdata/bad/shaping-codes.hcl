rule "codes" {
  code     = [250, "6xx", "450-430", "42", "none", []]
  enhanced = ["4.7", "2.0.0", "4.7.x", "4.7.1000"]
  stage    = "recipient"
  then     = suspend("1h", source)
}
rule "empty" {
  code = []
  then = suspend("1h", source)
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
