package lang

import "regexp"

// domain is what policy.NormaliseDomain gives, without its limits of length, which
// would make many states and refute little.
const domain = `(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[(?:ipv6:)?[0-9a-f:.]+\])`

// DomainShape holds on every domain in normal form (lower-case A-labels without a
// trailing dot, an address literal in brackets) and on "", the domain of the null
// reverse-path.
func DomainShape() Cond { return shape("a domain", `\A`+domain+`?\z`) }

// LocalShape holds on every local part in normal form, "" included: dequoted, so that
// nearly anything may stand in it, but no capital letter of ASCII and no line end.
func LocalShape() Cond { return shape("a local part", `\A[^A-Z\r\n]*\z`) }

// AddressShape holds on every address in normal form: local@domain, or "".
func AddressShape() Cond { return shape("an address", `\A(?:[^A-Z\r\n]*@`+domain+`)?\z`) }

// HeaderValueShape holds on every unfolded and trimmed value of a header field. The
// wire lets neither NUL nor a bare CR or LF through (RFC 5321, section 2.3.8).
func HeaderValueShape() Cond {
	const inner = `[^\x00\r\n]`
	const outer = `[^\x00-\x20\x{85}\x{a0}]`
	return shape("a header value", `\A(?:`+outer+`(?:`+inner+`*`+outer+`)?)?\z`)
}

func shape(name, re string) Cond {
	return Cond{&cond{name: name, re: regexp.MustCompile(re)}}
}
