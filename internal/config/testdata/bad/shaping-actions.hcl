rule "actions" {
  code = "4xx"
  then = [
    suspend("1h"),
    suspend("1h", "source"),
    suspend("1h", source, planet),
    suspend("1h", site, provider),
    suspend("1h", source, site, 1),
    suspend("1 hour", sorce),
    suspend("0s", source),
    throttle("fast", "1h", site),
    throttle("1/1m", "1h", domain),
    throttle(),
    connections(0, "1h", source),
    connections(),
    backoff("1h", "30m", source),
    suspnd("1h", source),
    bounce(),
    retry(1),
    "suspend",
  ]
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
