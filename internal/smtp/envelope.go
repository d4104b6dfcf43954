package smtp

// Path is a reverse-path or forward-path without its source route (RFC 5321,
// section 4.1.2): the mailbox as the peer spelt it, local part unquoted. The zero
// Path is the null reverse-path "<>". A Path with a Local and no Domain occurs only
// as "<postmaster>".
type Path struct {
	Local  string // dequoted; case kept
	Domain string // as spelt; may be an address literal "[192.0.2.1]"
	Route  string // source route as spelt, "@a,@b", or "" (kept so that policy can judge it; never obeyed)
}

// IsNull reports the null reverse-path.
func (p Path) IsNull() bool { return p.Local == "" && p.Domain == "" }

// Notify is the set of a recipient's NOTIFY values (RFC 3461, section 4.1).
type Notify uint8

// The NOTIFY values. Zero means that none was given: failure and, at the
// gateway's discretion, delay are reported.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// MailParams are the ESMTP parameters of MAIL that the server takes part in.
type MailParams struct {
	Size     int64  // SIZE (RFC 1870); 0 where not given
	EightBit bool   // BODY=8BITMIME (RFC 6152)
	UTF8     bool   // SMTPUTF8 (RFC 6531)
	Return   string // RET (RFC 3461): "FULL", "HDRS" or ""
	EnvID    string // ENVID (RFC 3461), xtext decoded
}

// RcptParams are the ESMTP parameters of RCPT.
type RcptParams struct {
	Notify Notify // NOTIFY (RFC 3461)
	ORcpt  string // ORCPT (RFC 3461) as given, "rfc822;" and xtext kept
}

// Recipient is one forward-path of an envelope with its parameters.
type Recipient struct {
	Path
	RcptParams
}

// Envelope is what MAIL and RCPT said (RFC 5321, section 2.3.1).
type Envelope struct {
	From Path
	MailParams
	To []Recipient
}
