// Package inbox brings in complaints and bounces that do not come by SMTP: from a
// mailbox by IMAP, from maildirs and mbox files, and by HTTP from providers' webhooks. It
// deletes, moves or acknowledges nothing before its Deliver has made it durable; what
// comes twice is told by the judge, from its identity.
package inbox
