# A company that sends for others. The parts stand in files of their own, by what
# changes together; postern reads every *.hcl of this folder.

node {
  hostname     = "gw1.esp.example"
  state        = "/var/lib/postern"
  admin        = "127.0.0.1:9025"
  return_path  = "bounce.esp.example"
  default_pool = "general"
  log          = "json"
}

listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
  limits {
    per_address = 20
  }
}

listener "injection" {
  address = "10.0.0.5:587"
  from    = "customers"
  limits {
    connections = 5000
    per_address = 500
  }
}

accept  = ["bounce.esp.example", "replies.esp.example"]
reports = ["fbl@fbl.esp.example"]
guard   = "hold"

# Replies to customers' mail go to the mailroom, which may answer.
inside "mailroom" {
  address = "10.9.0.7:25"
  domains = ["replies.esp.example"]
  resends = true
}

limits {
  size                 = "25MiB"
  connections_per_site = 20
}

retry {
  first  = "10m"
  max    = "4h"
  expire = "96h"
}
