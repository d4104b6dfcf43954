rule "google" {
  destinations = ["gmial"]
  code         = 421
  then         = suspend("1h", source)
}
rule "gmail-unwantd" { off = true }
rule "gmail-unwanted" {
  off  = true
  code = 421
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
