package spool

// Body is a message body on its way into the spool.
type Body struct{}
