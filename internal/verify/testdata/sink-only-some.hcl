# Only some of the mail is rewritten; the rest goes where the stranger says.
# status: open

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

accept = ["bounce.esp.example"]
sinks = ["archive@partner.example"]

filter "rewrite" {
  if   = origin == "stranger" && size > 1000
  set_rcpt = "archive@partner.example"
}

filter "send" { # want PV001 open: @bounce.esp.example goes out
  if   = origin == "stranger"
  then = deliver()
}
