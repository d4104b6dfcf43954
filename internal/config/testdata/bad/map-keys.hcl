node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" {
  sources = ["198.51.100.10"]
  weights = { (5) = 3, (foo) = 1, (null) = 2 }
}
customer "acme" {
  senders  = ["acme.example"]
  networks = ["10.0.0.0/24"]
  users    = { (7) = "x", (bar) = "y" }
  dkim     = ["nokey"]
}
filter "mark" {
  if         = origin == "customer"
  set_header = { (5) = "five" }
}
