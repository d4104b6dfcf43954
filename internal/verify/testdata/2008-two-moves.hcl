# Each leak has a drop of its own, and none that is for both.
# status: open
# repair: move drop-aol before aol-range; move drop-yahoo before yahoo-range
# after-repair: closed

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

accept = ["aol.com", "yahoo.com"]

filter "aol-range" { # want PV001 open: relays for strangers
  if   = rcpt.domain == "aol.com"
  then = deliver(pool.aol)
}

filter "yahoo-range" { # want PV001 open: relays for strangers
  if   = rcpt.domain == "yahoo.com"
  then = deliver(pool.general)
}

filter "drop-aol" { # want PV102 warn: "aol-range" above it takes all
  if   = origin == "stranger" && rcpt.domain == "aol.com"
  then = drop()
}

filter "drop-yahoo" { # want PV102 warn: "yahoo-range" above it takes all
  if   = origin == "stranger" && rcpt.domain == "yahoo.com"
  then = drop()
}
