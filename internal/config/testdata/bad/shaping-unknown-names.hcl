shaping { defaults = true }
destination "one" {
  mxs = [".big.example"]
  limit { connections = 5 }
}
destination "two" {
  mx = [".two.example"]
  limits { pools = ["genral"] }
}
rule {
  code = 421
}
rule "one" {
  codes = 421
  text  = "x y z"
  after = "10m"
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
