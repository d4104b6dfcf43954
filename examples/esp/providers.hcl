# Who may send complaints: by the domain that SPF or DKIM answers for, or by network.
provider "yahoo" { domains = ["arf.mail.yahoo.com"] }
provider "microsoft" { domains = ["hotmail.com", "outlook.com"] }
provider "validity" { domains = ["feedback.senderscore.net", "fbl.validity.com"] }
