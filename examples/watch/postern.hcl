# A node beside the servers that send: it takes no mail, fills its ledger from their logs,
# and judges what comes back. Run it with: postern watch postern.hcl
node {
  hostname = "watch.esp.example"
  state    = "/var/lib/postern"
}

# PowerMTA: the customer is the first part of the VirtualMTA's name.
watch "pmta" {
  format   = "powermta-csv"
  files    = ["/var/log/pmta/acct*.csv"]
  customer = capture(field("vmta"), "^([a-z]+)-")
  campaign = field("jobId")
}

# Postfix: customers are told by their networks.
watch "mx1" {
  format   = "postfix"
  files    = ["/var/log/mail.log*"]
  hostname = "mx1.esp.example"
  source   = "198.51.100.7"
}

customer "acme" {
  networks = ["10.1.0.0/16"]
  senders  = ["news.acme.example"]
}

# The addresses that these servers send from, and nobody else.
pool "all" { sources = ["198.51.100.1-198.51.100.40"] }

provider "aol" { domains = ["fbl.aol.example"] }

intake "fbl" {
  imap          = "imaps://mail.esp.example"
  user          = "fbl"
  password_file = "/etc/postern/fbl.password"
  done          = "move:Judged"
}

webhook "desk" {
  url         = "https://desk.esp.example/postern"
  secret_file = "/etc/postern/desk.secret"
  events      = ["reported", "incident"]
}
