# A filter that means the bounces' domain and the AOL route: one recipient is as good as another.
# status: open
# witness: rcpt=@aol.com listener=internet
# blockers: drop-internet
# repair: move drop-internet before aol-range
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

accept = ["bounce.esp.example", "aol.com"]

filter "bounces" {
  if   = rcpt.domain == "bounce.esp.example"
  then = drop()
}

filter "aol-range" { # want PV001 open: relays for strangers
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}

filter "drop-internet" { # want PV102 warn: "bounces", "aol-range" above it take all that it would, with a different action
  if   = listener == "internet"
  then = drop()
}
