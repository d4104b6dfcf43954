pool "general" { sources = ["198.51.100.10-198.51.100.40"] }
pool "transactional" { sources = ["198.51.100.50-198.51.100.53"] }
pool "aol" { sources = ["203.0.113.1-203.0.113.14"] }
