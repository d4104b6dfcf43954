node {
  hostname = "gw.esp.example"
  state    = "state"
}
watch "a" {
  format   = "postfx"
  files    = ["/var/log/[mail"]
  timezone = "Europe/Berln"
  source   = "mx1"
}
watch "b" {
  format   = "postfix"
  files    = []
  customer = field("sasl_user")
  campaign = capture(field("sasl_username"), "^[a-z]+-")
  hostname = "mx1.esp.example"
}
watch "c" {
  format   = "kumomta-jsonl"
  customer = feild("tenant")
  campaign = capture("x", "y")
  hostname = "mx1.esp.example"
  begin    = "middle"
}
