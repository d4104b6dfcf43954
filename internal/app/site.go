package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/queue"
)

// siteOf reads what an operator calls a site: its name, as the queue, the rules or an
// order have it, or a recipient domain, whose mail goes to some site.
func (a *App) siteOf(ctx context.Context, name string) (string, error) {
	_, _, known := a.queue.DomainsOf(name, 0)
	ordered := slices.ContainsFunc(a.queue.Orders(), func(o queue.Order) bool { return o.Scope.Site == name })
	if known || ordered || strings.ContainsAny(name, "(|:") || slices.Contains(a.shaping.Providers(), name) {
		return name, nil
	}
	domain, err := policy.NormaliseDomain(name)
	if err != nil {
		return "", fmt.Errorf("%q is neither a site nor a domain", name)
	}
	if host := a.now().routing.InsideFor(policy.Address{Domain: domain}); host != "" {
		return "inside:" + host, nil
	}
	t, _, err := a.shapingTraffic(ctx, &ShapingQuery{Destination: domain})
	if err != nil {
		return "", fmt.Errorf("%q is no site that the queue knows, and as a domain it leads to none: %w", name, err)
	}
	return t.Site, nil
}

// maxShared bounds the domains that are named where a site is suspended.
const maxShared = 10

// sharing tells with an order that was given by a domain which site that is, and who else
// is there.
func (a *App) sharing(v *OrderView, named, site string) {
	if named == "" || named == site {
		return
	}
	domain, _ := policy.NormaliseDomain(named)
	names, all, _ := a.queue.DomainsOf(site, maxShared+1)
	if i := slices.Index(names, domain); i >= 0 {
		names = slices.Delete(names, i, i+1)
		all--
	}
	v.Named, v.Site, v.Shared, v.SharedInAll = named, site, names[:min(len(names), maxShared)], all
}
