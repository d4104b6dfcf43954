warmup "new" {
  sources  = ["198.51.100.10", "198.51.100.10", "198.51.100.99", "not an address"]
  start    = "tomorrow"
  schedule = [50, 0, 20, 1.5]
  destination "gmial" { schedule = [1] }
  destination "gmail" {}
  destination { schedule = [1] }
}
warmup "empty" {
  sources  = ["198.51.100.10"]
  start    = "2026-11-25"
  schedule = []
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
