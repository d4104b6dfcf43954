rule "everything" {
  then = suspend("1h", source)
}
rule "nothing" {
  code = 421
}
rule "held-back" {
  code      = 421
  threshold = "5/10m"
  then      = bounce()
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
