package shaping

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
)

// shape is what an action binds: by scope and reach.
type shape struct{ scope, within string }

// bindKey is one thing that an action binds. Parts that its shape does not name are
// empty.
type bindKey struct {
	shape
	dest   string // site, provider or domain
	name   string // pool, customer or MX
	detail string // campaign
	source netip.Addr
}

// key gives what a shape means for a piece of traffic; false where a part is unknown.
func (s shape) key(t *Traffic) (k bindKey, ok bool) {
	k.shape = s
	switch s.scope {
	case "site":
		k.dest = t.Site
		return k, k.dest != ""
	case "provider":
		k.dest = t.Provider
		return k, k.dest != ""
	case "domain":
		k.dest = t.Domain
		return k, k.dest != ""
	case "mx":
		k.name = t.MX
		return k, k.name != ""
	case "source":
		k.source, ok = t.Source, t.Source.IsValid()
	case "pool":
		k.name, ok = t.Pool, t.Pool != ""
	case "customer":
		k.name, ok = t.Customer, t.Customer != ""
	case "campaign":
		k.name, k.detail, ok = t.Customer, t.Campaign, t.Campaign != ""
	}
	switch s.within {
	case "site":
		k.dest = t.Site
		ok = ok && k.dest != ""
	case "provider":
		k.dest = t.Provider
		ok = ok && k.dest != ""
	}
	return k, ok
}

// bound gives the parts of a piece of traffic that a shape names, and nothing else.
func (s shape) bound(t *Traffic) (b Traffic) {
	switch s.scope {
	case "site":
		b.Site, b.Provider = t.Site, t.Provider
	case "provider":
		b.Provider = t.Provider
	case "domain":
		b.Domain = t.Domain
	case "mx":
		b.MX = t.MX
	case "source":
		b.Source = t.Source
	case "pool":
		b.Pool = t.Pool
	case "customer":
		b.Customer = t.Customer
	case "campaign":
		b.Customer, b.Campaign = t.Customer, t.Campaign
	}
	switch s.within {
	case "site":
		b.Site, b.Provider = t.Site, t.Provider
	case "provider":
		b.Provider = t.Provider
	}
	return b
}

// plain reports a scope that is a place of its own and reaches no further.
func plain(scope string) bool {
	return scope == "site" || scope == "provider" || scope == "domain" || scope == "mx"
}

const shards = 64

// binds maps what is bound to what binds it. Reading takes no lock: a change copies
// the one shard that it is in.
type binds[V any] struct {
	seed   maphash.Seed
	shard  [shards]atomic.Pointer[map[bindKey]V]
	shapes atomic.Pointer[[]shape] // that are in use; nil where nothing is bound

	mu    sync.Mutex
	count map[shape]int
}

func (b *binds[V]) at(k bindKey) *atomic.Pointer[map[bindKey]V] {
	return &b.shard[maphash.Comparable(b.seed, k)%shards]
}

func (b *binds[V]) get(k bindKey) (v V, ok bool) {
	if m := b.at(k).Load(); m != nil {
		v, ok = (*m)[k]
	}
	return v, ok
}

// set binds, or unbinds where there is nothing to bind with.
func (b *binds[V]) set(k bindKey, v V, some bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.at(k)
	m := map[bindKey]V{}
	if old := p.Load(); old != nil {
		m = maps.Clone(*old)
	}
	_, was := m[k]
	if some {
		m[k] = v
	} else {
		delete(m, k)
	}
	p.Store(&m)
	if was == some {
		return
	}
	if b.count == nil {
		b.count = map[shape]int{}
	}
	if some {
		b.count[k.shape]++
	} else if b.count[k.shape]--; b.count[k.shape] == 0 {
		delete(b.count, k.shape)
	}
	b.reshape()
}

// reshape says which shapes there are. The lock is held.
func (b *binds[V]) reshape() {
	if len(b.count) == 0 {
		b.shapes.Store(nil)
		return
	}
	var list []shape
	for s := range b.count {
		list = append(list, s)
	}
	b.shapes.Store(&list)
}
