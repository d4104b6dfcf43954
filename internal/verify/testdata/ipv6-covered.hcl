# Networks of IPv6.

node {
  hostname     = "gw.esp.example"
  state        = "/var/lib/postern"
  default_pool = "general"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
listener "injection" {
  address = "10.0.0.5:25"
  from    = "customers"
}
customer "acme" {
  networks = ["10.1.0.0/16"]
  senders  = ["news.acme.example"]
}
pool "general" { sources = ["198.51.100.10-198.51.100.40"] }
pool "aol" { sources = ["203.0.113.1-203.0.113.14"] }

accept = ["*"]

filter "drop-low" {
  if   = listener == "internet" && within(client.address, "::/1")
  then = drop()
}

filter "drop-high" {
  if   = listener == "internet" && within(client.address, "8000::/1")
  then = drop()
}

filter "drop-v4" {
  if   = listener == "internet" && within(client.address, "0.0.0.0/0")
  then = drop()
}

filter "aol-range" { # want PV104 warn: overlap and decide differently
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
