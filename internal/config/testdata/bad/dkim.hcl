node {
  hostname     = "gw.esp.example"
  state        = "state"
  default_pool = "general"
  dkim         = ["hosue"]
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" {
  sources = ["198.51.100.10"]
  dkim    = ["nobody"]
}
dkim "house" {
  domain   = "not a domain"
  selector = "a b"
  key_file = "dkim.hcl"
  headers  = ["Subject", "Received", "X:Y"]
  oversign = []
}
dkim "two" {
  domain           = "esp.example"
  selector         = "s"
  key_file         = "."
  algorithm        = "rsa"
  canonicalization = "relaxed"
  valid_for        = "1s"
}
dkim "three" {
  domain   = "esp.example"
  selector = "s"
  key_file = "nowhere.pem"
  keyfile  = "x"
}
