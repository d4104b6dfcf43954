rule "broken" {
  text = ["fine", "too (many"]
  then = suspend("1h", source)
}
rule "all" {
  text = "x*"
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
