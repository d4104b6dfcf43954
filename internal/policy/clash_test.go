package policy

import (
	"slices"
	"testing"
)

// TestClash plants what a clash of two hashes gives: names and texts that are in no
// filter lead to every number that the table has. Filters are asked in vain then; no
// decision may change.
func TestClash(t *testing.T) {
	header := func(name string) Expr { return &Call{Func: "header", Args: []Expr{&Literal{Value: name}}} }
	is := func(l Expr, s string) Expr { return &Binary{Op: Eq, L: l, R: &Literal{Value: s}} }
	drop := &Final{Kind: ThenDrop}
	filters := []Filter{
		{Name: "helo", If: is(&Field{Name: "client.helo"}, "a"), Then: drop},
		{Name: "rcpt", If: is(&Field{Name: "rcpt.local"}, "b"), Then: drop},
		{Name: "first", If: is(header("X-First"), "1"), Then: drop},
		{Name: "second", If: is(header("X-Second"), "2"), Then: drop},
		{Name: "there", If: &Call{Func: "has_header", Args: []Expr{&Literal{Value: "X-Third"}}}, Then: drop},
		{Name: "sender", If: is(&Field{Name: "sender.local"}, "c"), Then: drop},
	}
	p, problems := New(filters, nil, &Topology{Accept: []Pattern{{Kind: MatchAll}}})
	if p == nil {
		t.Fatal(problems)
	}
	f := &Facts{Origin: Stranger, Rcpt: Address{Local: "u", Domain: "d.example"}, Client: Client{Helo: "nobody"}, Content: &Content{Headers: []HeaderField{{Name: "x-nobody", Value: "1"}}}}
	want, _ := Explain(p, f)
	for _, q := range []*Program{p, AsGrid(p)} {
		x := q.index
		planted := 0
		plant := func(to *table, keys ...uint64) {
			clean := *to
			for _, s := range clean.slots {
				for _, k := range keys {
					if s.value == 0 {
						continue
					}
					planted++
					*to = clash(&clean, k, s)
					if got, _ := Eval(q, f); got.Disposition != want.Disposition || got.Text != want.Text {
						t.Errorf("a clash with number %d: %+v, want %+v", s.value-1, got, want)
					}
				}
			}
			*to = clean
		}
		plant(&x.table, textKey(dimHelo, x.hash("nobody")), textKey(dimRcptLocal, x.hash("u")), valueKey(0, x.hash("1")))
		plant(&x.byName, x.hash("x-nobody"))
		if planted < len(filters) {
			t.Errorf("%d clashes", planted)
		}
	}
}

// clash gives a table in which a key, of something that is not in it, leads where another
// does.
func clash(x *table, key uint64, other slot) table {
	out := *x
	out.slots = slices.Clone(x.slots)
	last := uint64(len(out.slots) - 1)
	at := key >> x.shift & last
	for out.slots[at].value != 0 {
		at = (at + 1) & last
	}
	out.slots[at] = slot{mark: uint32(key), value: other.value}
	return out
}
