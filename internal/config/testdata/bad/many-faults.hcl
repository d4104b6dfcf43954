node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "stranger"
}
pool "general" { sources = ["198.51.100.10"] }
accept = ["a b"]
filter "x" {
  if   = rcpt.domian == "aol.com"
  then = delivr()
}
