# Who may send complaints: by the domain that SPF or DKIM answers for, or by network. It must
# be one at which the public has no mailboxes: outlook.com would let any user of it forge a
# complaint that is believed.
provider "yahoo" { domains = ["arf.mail.yahoo.com"] }
provider "validity" { domains = ["feedback.senderscore.net", "fbl.validity.com"] }

# Microsoft's JMRP comes from staff@hotmail.com, a domain with the public's mailboxes. Its
# reports are judged without this block too, but as from somebody who is not
# authenticated. Enter the networks that your own reports came from:
#
# provider "microsoft" { networks = ["192.0.2.0/24"] }
