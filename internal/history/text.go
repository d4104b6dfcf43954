package history

import (
	"bytes"
	"net/netip"
	"strconv"
)

// maxText bounds what is kept of a reply, a name or an id.
const maxText = 1000

// text copies what is kept, bounded.
func text(b []byte) string { return string(b[:min(len(b), maxText)]) }

// unbracket takes angle brackets off.
func unbracket(b []byte) []byte {
	if n := len(b); n >= 2 && b[0] == '<' && b[n-1] == '>' {
		return b[1 : n-1]
	}
	return b
}

// after gives what stands behind a prefix.
func after(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return nil, false
	}
	return b[len(prefix):], true
}

func address(b []byte) netip.Addr {
	if len(b) == 0 || len(b) > 64 {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(string(b))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

func number(b []byte) int64 {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// host reads "name[address]:port" as Postfix writes it, with "unknown" and "none" for
// no name. The port may be missing.
func host(b []byte) (name string, at netip.AddrPort) {
	open := bytes.IndexByte(b, '[')
	if open < 0 {
		return "", at
	}
	end := bytes.IndexByte(b[open:], ']')
	if end < 0 {
		return "", at
	}
	inner := b[open+1 : open+end]
	if v6, ok := after(inner, "IPv6:"); ok {
		inner = v6
	}
	if n := b[:open]; string(n) != "unknown" {
		name = text(n)
	}
	var port int64
	if rest := b[open+end+1:]; len(rest) > 1 && rest[0] == ':' {
		digits := rest[1:]
		for i, c := range digits {
			if c < '0' || c > '9' {
				digits = digits[:i]
				break
			}
		}
		port = number(digits)
	}
	if a := address(inner); a.IsValid() && port < 1<<16 {
		at = netip.AddrPortFrom(a, uint16(port))
	}
	return name, at
}

// domain gives the domain of an address, as written.
func domain(addr string) string {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == '@' {
			return addr[i+1:]
		}
	}
	return ""
}
