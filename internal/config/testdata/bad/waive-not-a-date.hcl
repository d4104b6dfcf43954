node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
filter "aol-range" {
  if   = rcpt.domain == "aol.com"
  then = deliver()
}
waive "PV001" {
  reason = "soon"
  until  = "31.12.2026"
}
