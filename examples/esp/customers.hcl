customer "acme" {
  networks = ["10.1.0.0/16"]
  senders  = ["news.acme.example"]
}

customer "bravo" {
  networks = ["10.2.0.0/16"]
  senders  = ["mail.bravo.example", ".bravo.example"]
  pool     = pool.transactional
}
