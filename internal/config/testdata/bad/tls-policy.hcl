node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
tls_policy "banks" {
  domains = ["bank.example", "a@bank.example", ".gov.example"]
  mode    = "verfy"
  names   = ["mx.bank.example"]
}
tls_policy "more" {
  domains = ["bank.example", "*"]
  mode    = "verify"
  ca_file = "tls-policy.hcl"
  names   = [".bank.example", "not a name"]
}
tls_policy "rest" {
  domain  = "x.example"
  ca_file = "none.pem"
}
