node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
log_file "mail" {
  path   = "log/mail.jsonl"
  events = ["accepted", "handed_off", "d"]
  rotate = ["1KiB", "24h", "1d"]
}
log_file "acct" {
  format    = "pmta"
  path      = "log/./mail.jsonl"
  addresses = "none"
  compres   = true
}
log_file "../x" {
  format = "pmta-csv"
  events = []
  keep   = "ever"
}
log_file {
  path = "y"
}
