listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
