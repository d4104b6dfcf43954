rule "when" {
  code      = 421
  threshold = "0/10m"
  then      = suspend("1h", source)
}
rule "later" {
  code  = 550
  then  = bounce()
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
rule "kind" {
  code     = 550
  category = "greylist"
}
