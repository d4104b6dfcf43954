package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/policy"
)

// lists are the policies that the figures of docs/performance.md are about. All
// randomness is seeded: the same list every time.

// vocabulary is what a list of n filters names.
type vocabulary struct {
	r        *rand.Rand
	domains  []string
	networks []string
	customer []string
	headers  []string
}

func newVocabulary(n int) *vocabulary {
	v := &vocabulary{r: rand.New(rand.NewPCG(uint64(n), 11))}
	for i := range n/2 + 20 {
		v.domains = append(v.domains, fmt.Sprintf("mx%d.site%d.example", i%3, i))
		v.networks = append(v.networks, fmt.Sprintf("10.%d.%d.0/24", i/256%256, i%256))
	}
	for i := range n/20 + 4 {
		v.customer = append(v.customer, fmt.Sprintf("c%d", i))
	}
	for i := range n/5 + 1 {
		v.headers = append(v.headers, fmt.Sprintf("X-Mark-%d", i))
	}
	return v
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// set is a condition about a domain: 1 to 8 of them, one in four a suffix.
func (v *vocabulary) set(name string) policy.Expr {
	if v.r.IntN(4) == 0 {
		_, parent, _ := strings.Cut(pick(v.r, v.domains), ".")
		return call("ends_with", field(name), lit("."+parent))
	}
	var ds []string
	for range 1 + v.r.IntN(8) {
		ds = append(ds, pick(v.r, v.domains))
	}
	return call("in", field(name), list(ds...))
}

func all(xs ...policy.Expr) policy.Expr {
	out := xs[0]
	for _, x := range xs[1:] {
		out = bin(out, policy.And, x)
	}
	return out
}

func (v *vocabulary) listener() policy.Expr {
	return bin(field("listener"), policy.Eq, lit(fmt.Sprintf("l%d", v.r.IntN(4))))
}

func (v *vocabulary) mark() policy.Expr {
	return bin(header(pick(v.r, v.headers)), policy.Eq, lit("yes"))
}

// real is guarded routes and drops, the guard last.
func (v *vocabulary) real(n int) []policy.Filter {
	customers := bin(field("origin"), policy.Eq, lit("customer"))
	return v.filters(n, func() (policy.Expr, policy.FinalKind) {
		switch v.r.IntN(10) {
		case 0, 1, 2:
			return all(customers, v.set("rcpt.domain")), policy.ThenDeliver
		case 3, 4:
			return all(bin(field("customer"), policy.Eq, lit(pick(v.r, v.customer))), v.set("rcpt.domain")), policy.ThenDeliver
		case 5:
			return all(v.listener(), call("within", field("client.address"), lit(pick(v.r, v.networks))), v.set("sender.domain")), policy.ThenDeliver
		case 6:
			return all(v.listener(), v.set("sender.domain"), bin(field("size"), policy.Gt, lit(int64(v.r.IntN(50_000))))), policy.ThenDrop
		case 7:
			return all(v.mark(), v.set("sender.domain")), policy.ThenDrop
		case 8:
			return all(v.mark(), not(customers)), policy.ThenDrop
		}
		return all(v.set("sender.domain"), v.set("rcpt.domain")), policy.ThenDrop
	})
}

// boxes overlap in three or four wide sides, so that no atom is rare.
func (v *vocabulary) boxes(n int) []policy.Filter {
	v.domains = v.domains[:20]
	networks := []string{"10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/10", "10.64.0.0/10", "192.0.0.0/8", "10.32.0.0/11"}
	return v.filters(n, func() (policy.Expr, policy.FinalKind) {
		xs := []policy.Expr{v.listener(), v.set("rcpt.domain"), v.set("sender.domain")}
		if v.r.IntN(2) == 0 {
			xs = append(xs, call("within", field("client.address"), lit(pick(v.r, networks))))
		}
		return all(xs...), policy.ThenDrop
	})
}

// mesh is conjunctions of header atoms.
func (v *vocabulary) mesh(n int) []policy.Filter {
	v.headers = v.headers[:min(len(v.headers), 60)]
	return v.filters(n, func() (policy.Expr, policy.FinalKind) {
		return all(v.mark(), v.mark(), v.mark(), v.mark()), policy.ThenDrop
	})
}

// expressions look for a word and a number in the subject.
func (v *vocabulary) expressions(n int) []policy.Filter {
	i := 0
	return v.filters(n, func() (policy.Expr, policy.FinalKind) {
		i++
		re := fmt.Sprintf(`(?i)%s%d[a-z]* (offer|deal)`, word(v.r), i)
		return call("matches", header("Subject"), lit(re)), policy.ThenDrop
	})
}

func word(r *rand.Rand) string {
	b := make([]byte, 5+r.IntN(8))
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

func (v *vocabulary) filters(n int, one func() (policy.Expr, policy.FinalKind)) []policy.Filter {
	var out []policy.Filter
	for i := range n - 1 {
		x, then := one()
		out = append(out, policy.Filter{Name: fmt.Sprintf("f%d", i), If: x, Then: &policy.Final{Kind: then}})
	}
	guard := bin(field("origin"), policy.Eq, lit("stranger"))
	return append(out, policy.Filter{Name: "guard", If: guard, Then: &policy.Final{Kind: policy.ThenReject, Code: 550}})
}

func (v *vocabulary) topology() *policy.Topology {
	t := &policy.Topology{Hostname: "gw.example", Accept: []policy.Pattern{{Kind: policy.MatchAll}}, Pools: []policy.Pool{{Name: "p"}}, DefaultPool: "p"}
	for i := range 4 {
		t.Listeners = append(t.Listeners, policy.Listener{Name: fmt.Sprintf("l%d", i)})
	}
	for _, c := range v.customer {
		t.Customers = append(t.Customers, policy.CustomerDef{Name: c})
	}
	return t
}

// messages are distinct; each has the twenty fields that mail has.
func (v *vocabulary) messages(n int) []*policy.Facts {
	out := make([]*policy.Facts, n)
	for i := range out {
		f := &policy.Facts{Listener: fmt.Sprintf("l%d", v.r.IntN(4)), Origin: policy.Stranger, Now: time.Unix(1.7e9, 0),
			Client:  policy.Client{Address: netip.MustParsePrefix(pick(v.r, v.networks)).Addr().Next(), Helo: "mail.example", Name: pick(v.r, v.domains)},
			Sender:  policy.Address{Local: "news", Domain: pick(v.r, v.domains)},
			Rcpt:    policy.Address{Local: fmt.Sprintf("user%d", i), Domain: pick(v.r, v.domains)},
			Content: &policy.Content{Size: int64(v.r.IntN(100_000)), SPF: "pass", DKIM: "pass", DMARC: "pass"}}
		if v.r.IntN(2) == 0 {
			f.Origin, f.Customer = policy.Customer, pick(v.r, v.customer)
		}
		for k := range 17 {
			f.Content.Headers = append(f.Content.Headers, policy.HeaderField{Name: fmt.Sprintf("x-field-%d", k), Value: "a value of usual length, more or less"})
		}
		subject := fmt.Sprintf("%s %s %s, the best %s of this week; %s for you and %s, order number %d now", word(v.r), word(v.r), word(v.r), word(v.r), word(v.r), word(v.r), i)
		f.Content.Headers = append(f.Content.Headers, policy.HeaderField{Name: "subject", Value: subject},
			policy.HeaderField{Name: strings.ToLower(pick(v.r, v.headers)), Value: "yes"},
			policy.HeaderField{Name: strings.ToLower(pick(v.r, v.headers)), Value: "no"})
		out[i] = f
	}
	return out
}

var benchLists = []struct {
	name string
	n    int
	make func(*vocabulary, int) []policy.Filter
}{
	{"real", 100, (*vocabulary).real},
	{"real", 1000, (*vocabulary).real},
	{"real", 10000, (*vocabulary).real},
	{"boxes", 1000, (*vocabulary).boxes},
	{"boxes", 10000, (*vocabulary).boxes},
	{"mesh", 10000, (*vocabulary).mesh},
	{"expressions", 1500, (*vocabulary).expressions},
}

const distinct = 4096

// cpu reports the processor time beside the time on the clock: the machine may be
// busy with other things. It is called with what the processor had done before.
func cpu(b *testing.B, before time.Duration) {
	b.ReportMetric(float64(spent(b)-before)/float64(b.N), "cpu-ns/op")
}

func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIndexed is Eval of one recipient of a message that was Read: what a
// message costs for each recipient. "cold" goes round 4,096 messages that were read long
// ago, so that neither they nor what the index has of them is in the processor's nearest
// cache; "recipients" goes round 64 messages with the recipients of 4,096, as a gateway
// does that has just read a message and asks for one recipient after the other; "hot"
// goes round 64 messages with their own.
func BenchmarkIndexed(b *testing.B) {
	for _, l := range benchLists {
		b.Run(fmt.Sprintf("%s/n=%d", l.name, l.n), func(b *testing.B) {
			v := newVocabulary(l.n)
			p := mustNew(b, v.topology(), l.make(v, l.n)...)
			fs := v.messages(distinct)
			for _, f := range fs {
				p.Read(f)
			}
			b.Run("cold", func(b *testing.B) { evalAll(b, p, fs) })
			b.Run("recipients", func(b *testing.B) { evalRecipients(b, p, fs) })
			b.Run("hot", func(b *testing.B) { evalAll(b, p, fs[:64]) })
		})
	}
}

// evalAll goes round the messages.
func evalAll(b *testing.B, p *policy.Program, fs []*policy.Facts) {
	b.ReportAllocs()
	i, before := 0, spent(b)
	for b.Loop() {
		policy.Eval(p, fs[i%len(fs)])
		i++
	}
	cpu(b, before)
}

// evalRecipients goes round a few messages, and all recipients.
func evalRecipients(b *testing.B, p *policy.Program, fs []*policy.Facts) {
	to := make([]policy.Address, len(fs))
	for i := range fs {
		to[i] = fs[i].Rcpt
	}
	b.ReportAllocs()
	i, before := 0, spent(b)
	for b.Loop() {
		f := fs[i%64]
		f.Rcpt = to[i%len(to)]
		policy.Eval(p, f)
		i++
	}
	cpu(b, before)
	for i := range fs {
		fs[i].Rcpt = to[i]
	}
}

// BenchmarkRead is what a message costs once, whatever the recipients.
func BenchmarkRead(b *testing.B) {
	for _, l := range benchLists {
		b.Run(fmt.Sprintf("%s/n=%d", l.name, l.n), func(b *testing.B) {
			v := newVocabulary(l.n)
			p := mustNew(b, v.topology(), l.make(v, l.n)...)
			fs := v.messages(distinct)
			b.ReportAllocs()
			i, before := 0, spent(b)
			for b.Loop() {
				p.Read(fs[i%distinct])
				i++
			}
			cpu(b, before)
		})
	}
}

// BenchmarkReadAndEval is Eval of a message that was not read, for one recipient.
func BenchmarkReadAndEval(b *testing.B) {
	for _, l := range benchLists {
		v := newVocabulary(l.n)
		p := mustNew(b, v.topology(), l.make(v, l.n)...)
		fs := v.messages(distinct)
		b.Run(fmt.Sprintf("%s/n=%d", l.name, l.n), func(b *testing.B) {
			b.ReportAllocs()
			i, before := 0, spent(b)
			for b.Loop() {
				policy.Eval(p, fs[i%distinct])
				i++
			}
			cpu(b, before)
		})
	}
}

// BenchmarkPlain is the list without the index.
func BenchmarkPlain(b *testing.B) {
	for _, l := range benchLists {
		v := newVocabulary(l.n)
		p := mustNew(b, v.topology(), l.make(v, l.n)...)
		fs := v.messages(distinct)
		b.Run(fmt.Sprintf("%s/n=%d", l.name, l.n), func(b *testing.B) {
			i, before := 0, spent(b)
			for b.Loop() {
				policy.Explain(p, fs[i%distinct])
				i++
			}
			cpu(b, before)
		})
	}
}

// BenchmarkIndexBuild is the making of the index alone, and what it holds.
func BenchmarkIndexBuild(b *testing.B) {
	for _, l := range benchLists {
		v := newVocabulary(l.n)
		p := mustNew(b, v.topology(), l.make(v, l.n)...)
		b.Run(fmt.Sprintf("%s/n=%d", l.name, l.n), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var q *policy.Program
			start := spent(b)
			for b.Loop() {
				q = policy.Reindexed(p)
			}
			cpu(b, start)
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MiB")
			runtime.KeepAlive(q)
		})
	}
}

// TestListsAgree compares index and plain list on the lists of the benchmarks.
func TestListsAgree(t *testing.T) {
	for _, l := range benchLists {
		v := newVocabulary(l.n)
		p := mustNew(t, v.topology(), l.make(v, l.n)...)
		outcomes := map[string]int{}
		for _, f := range v.messages(40) {
			if differ(t, p, f) {
				t.Fatalf("%s/%d: %+v", l.name, l.n, f)
			}
			f.Content = nil
			if differ(t, p, f) {
				t.Fatalf("%s/%d before DATA: %+v", l.name, l.n, f)
			}
			d, _ := policy.Early(p, f)
			outcomes[string(d.Disposition)]++
		}
		t.Logf("%s/%d: grid %v, early %v", l.name, l.n, policy.IsGrid(p), outcomes)
	}
}

// TestNoAllocation holds a decision without effects to none.
func TestNoAllocation(t *testing.T) {
	if policy.Checked {
		t.Skip("evaluations that are checked allocate")
	}
	if raceDetector {
		t.Skip("with the race detector a pool forgets what it is given, now and then")
	}
	v := newVocabulary(1000)
	p := mustNew(t, v.topology(), v.real(1000)...)
	fs := v.messages(64)
	i := 0
	for name, prepare := range map[string]func(){"not read": func() {}, "read": func() {
		for _, f := range fs {
			p.Read(f)
		}
	}} {
		prepare()
		if n := testing.AllocsPerRun(1000, func() { policy.Eval(p, fs[i%len(fs)]); i++ }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
