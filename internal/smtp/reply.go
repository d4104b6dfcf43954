package smtp

import (
	"fmt"
	"strconv"
)

// EnhancedCode is an enhanced mail system status code (RFC 3463). The zero value
// means that there is none.
type EnhancedCode [3]int

// String gives "5.7.1", or "" for the zero value.
func (e EnhancedCode) String() string {
	if e == (EnhancedCode{}) {
		return ""
	}
	return string(e.append(make([]byte, 0, 8)))
}

// append writes the code's three numbers.
func (e EnhancedCode) append(b []byte) []byte {
	b = append(strconv.AppendInt(b, int64(e[0]), 10), '.')
	b = append(strconv.AppendInt(b, int64(e[1]), 10), '.')
	return strconv.AppendInt(b, int64(e[2]), 10)
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
	b := strconv.AppendInt(make([]byte, 0, 64), int64(r.Code), 10)
	if r.Enhanced != (EnhancedCode{}) {
		b = r.Enhanced.append(append(b, ' '))
	}
	for _, line := range r.Lines {
		b = append(append(b, ' '), line...)
	}
	return string(b)
}
