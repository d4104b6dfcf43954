package smtp

import (
	"fmt"
	"strings"
)

// EnhancedCode is an enhanced mail system status code (RFC 3463). The zero value
// means that there is none.
type EnhancedCode [3]int

// String gives "5.7.1", or "" for the zero value.
func (e EnhancedCode) String() string {
	if e == (EnhancedCode{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
}

// Reply is an SMTP reply (RFC 5321, section 4.2), sent or received. It is an error
// too: a function that refuses returns the reply that says so. Whether it is
// permanent follows from Code alone.
type Reply struct {
	Code     int          // 200 to 559
	Enhanced EnhancedCode // RFC 2034; zero where there is none
	Lines    []string     // text without code, enhanced code and line ends; at least one
	Close    bool         // the server closes the connection after it has sent this reply
}

// NewReply makes a one-line reply. format and args are those of fmt.Sprintf.
func NewReply(code int, enhanced EnhancedCode, format string, args ...any) *Reply {
	return &Reply{Code: code, Enhanced: enhanced, Lines: []string{fmt.Sprintf(format, args...)}}
}

// Positive reports a 2xx or 3xx reply.
func (r *Reply) Positive() bool { return r.Code >= 200 && r.Code < 400 }

// Temporary reports a 4xx reply.
func (r *Reply) Temporary() bool { return r.Code >= 400 && r.Code < 500 }

// Permanent reports a 5xx reply.
func (r *Reply) Permanent() bool { return r.Code >= 500 && r.Code < 600 }

// Error gives the reply on one line: "550 5.7.1 relaying denied".
func (r *Reply) Error() string { return r.String() }

// String gives the reply on one line: code, enhanced code, and the lines joined by
// a space.
func (r *Reply) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%03d", r.Code)
	if e := r.Enhanced.String(); e != "" {
		b.WriteByte(' ')
		b.WriteString(e)
	}
	if len(r.Lines) > 0 {
		b.WriteByte(' ')
		b.WriteString(strings.Join(r.Lines, " "))
	}
	return b.String()
}
