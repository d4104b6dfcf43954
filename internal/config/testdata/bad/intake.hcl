node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "l" {
  address = "127.0.0.1:25"
  from    = "strangers"
}
provider "aol" { domains = ["fbl.aol.com"] }
intake "none" {}
intake "two" {
  maildir = "m"
  mbox    = "b"
  user    = "x"
}
intake "i" {
  imap     = "pop3://mail.example.com"
  done     = "burn"
  provider = "aoll"
}
intake "h1" {
  http        = "192.0.2.1:8125"
  path        = "ses"
  format      = "sess"
  secret_file = "s"
}
intake "h2" {
  http        = "127.0.0.1:8125"
  path        = "/a"
  format      = "ses"
  secret_file = "s"
  to          = "nobody"
}
intake "h3" {
  http   = "127.0.0.1:8125"
  path   = "/a"
  format = "xarf"
}
