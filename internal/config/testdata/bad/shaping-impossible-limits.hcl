destination "big" {
  mx = [".big.example"]
  limits {
    connections             = 0
    messages_per_connection = 1.5
    message_rate            = ["-5/1m", "0/1h", "100", "10/1h/50"]
    idle                    = "2h"
  }
  limits {
    connections            = 5
    connections_per_source = 6
    retry                  = ["72h"]
    expire                 = "48h"
    source_rate            = "1/96h"
  }
}

node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
