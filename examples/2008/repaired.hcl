# The policy of 2008, repaired: the filter that drops stands first.

node {
  hostname     = "gw.esp.example"
  state        = "/var/lib/postern"
  return_path  = "bounce.esp.example"
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

accept  = ["*"] # bounces come to the domains of many customers
reports = ["fbl@fbl.esp.example"]
guard   = "observe" # there was none in 2008; hold is the default

customer "acme" {
  networks = ["10.1.0.0/16"]
  senders  = ["news.acme.example"]
}

pool "general" { sources = ["198.51.100.10-198.51.100.40"] }
pool "aol" { sources = ["203.0.113.1-203.0.113.14"] }

# What comes in from the Internet are bounces: log and drop them.
filter "drop-internet-bounces" {
  if   = listener == "internet"
  log  = "bounce"
  then = drop()
}

# AOL knows these addresses: its mail goes out over them.
filter "aol-range" {
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
