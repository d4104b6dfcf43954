package smtp

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
)

// Peer is what the server knows of a client. The server fills it in as the session
// goes on; a Session reads it at each call and never writes it.
type Peer struct {
	Addr     netip.AddrPort       // of the client; from the PROXY header where that is believed
	Local    netip.AddrPort       // address of the listener that was reached
	Helo     string               // argument of EHLO or HELO, "" before
	ESMTP    bool                 // EHLO was used
	TLS      *tls.ConnectionState // nil without TLS
	AuthUser string               // user after a successful AUTH, "" otherwise
}

// Session is one client's session, as the server drives it. The server calls its
// methods from one goroutine, in an order that RFC 5321 allows: Mail once, Rcpt for
// each recipient, Data once, then again; Reset whenever a transaction ends without
// Data (RSET, EHLO, a new handshake) and Close exactly once at the end. A nil reply
// means success with the server's usual text. Whatever Session returns is sent; a
// Reply with Close set ends the connection after it.
type Session interface {
	// Mail opens a transaction. A non-positive reply refuses it.
	Mail(ctx context.Context, from Path, p MailParams) *Reply
	// Rcpt adds a recipient. It is not called before Mail succeeded.
	Rcpt(ctx context.Context, to Path, p RcptParams) *Reply
	// Data hands over the message: header and body with CRLF line ends, dot-stuffing
	// removed. r ends with io.EOF at the end of data. It fails with ErrTooLarge,
	// ErrBareLine, ErrLineTooLong or a network error; then the server decides what the client
	// gets (and closes where the protocol is no longer in step), and what Data
	// returns is dropped. Data must read r to its end or return a reply with 4xx or
	// 5xx, after which the server drains the rest within the size limit.
	Data(ctx context.Context, r io.Reader) *Reply
	// Reset forgets the transaction.
	Reset()
	// Close forgets the session.
	Close()
}

// Backend makes sessions. A nil Session with a reply refuses the client: the reply
// (421 or 554) is sent in place of the greeting.
type Backend interface {
	NewSession(ctx context.Context, p *Peer) (Session, *Reply)
}

// Credentials answers for AUTH (RFC 4954). It is asked only over TLS for PLAIN.
type Credentials interface {
	// Secret gives the SCRAM-SHA-256 verifier of a user (RFC 5802, RFC 7677); ok is
	// false for an unknown user, whom the server then treats like a wrong password,
	// in the same time.
	Secret(user string) (v Verifier, ok bool)
}

// Verifier is a password as SCRAM-SHA-256 stores it (RFC 5803). PLAIN is checked
// against it too.
type Verifier struct {
	Salt       []byte
	Iterations int
	StoredKey  []byte // 32 bytes
	ServerKey  []byte // 32 bytes
}
