# What refuses strangers stands before what delivers.
filter "drop-internet-bounces" {
  if   = listener == "internet" && rcpt.domain == "bounce.esp.example"
  log  = "bounce"
  then = drop()
}

filter "replies" {
  if   = listener == "internet" && rcpt.domain == "replies.esp.example"
  then = deliver()
}

filter "no-strangers" {
  if   = origin == "stranger"
  then = reject("relaying denied")
}

filter "slow-start" {
  if    = customer == "bravo"
  limit = "10000/1h"
}

filter "aol-range" {
  if   = origin == "customer" && in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}

assert "aol addresses carry only aol mail" {
  always = decision.pool != "aol" || in(rcpt.domain, ["aol.com", "aim.com"])
}
