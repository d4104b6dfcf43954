package mailauth

import (
	"context"
	"net/netip"
	"strings"
	"time"
)

// Bounds on what an address may cost that claims many names, or whose DNS is slow.
const (
	maxNames    = 5
	reverseTime = 10 * time.Second
)

// ReverseName gives the first name of an address that resolves back to it (RFC 8601,
// section 3), in lower-case A-labels; "" where there is none or the DNS does not
// answer.
func ReverseName(ctx context.Context, r Resolver, a netip.Addr) string {
	ctx, cancel := context.WithTimeout(ctx, reverseTime)
	defer cancel()
	a = a.Unmap().WithZone("")
	names, err := r.LookupAddr(ctx, a.String())
	if err != nil {
		return ""
	}
	for _, name := range names[:min(len(names), maxNames)] {
		addrs, err := r.LookupIPAddr(ctx, strings.TrimSuffix(name, "."))
		if err != nil {
			continue
		}
		for _, ia := range addrs {
			if back, ok := netip.AddrFromSlice(ia.IP); ok && back.Unmap() == a {
				return normal(name)
			}
		}
	}
	return ""
}
