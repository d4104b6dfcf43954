package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
)

// words are texts that JSON, terminals or we ourselves treat in some way of their own.
var words = []string{"", "", "plain", "a@b.example", `say "hello" \ twice`, "<&>", "tab\tand\r\nline", "\x00\x01\x1f\x7f", "é\u0085\u009b", "\u2028\u2029",
	"\u202e\u2066 turned", "broken \xff\xc3", "\ufffd", "日本", "trailing \xe2\x80"}

// fill sets every field of a value, also those that come to be added.
func fill(r *rand.Rand, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		if r.IntN(4) > 0 {
			*x = time.Unix(r.Int64N(1<<33), r.Int64N(1_000_000)*int64(r.IntN(2))*1000).UTC()
		}
		return
	case *netip.Addr:
		*x = []netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1")}[r.IntN(4)]
		return
	case *netip.AddrPort:
		*x = []netip.AddrPort{{}, netip.MustParseAddrPort("192.0.2.1:25"), netip.MustParseAddrPort("[2001:db8::1]:65535")}[r.IntN(3)]
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Slice:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
		}
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.Array:
		for i, some := 0, r.IntN(2) == 0; some && i < v.Len(); i++ {
			v.Index(i).SetUint(r.Uint64N(256))
		}
	case reflect.String:
		v.SetString(words[r.IntN(len(words))] + words[r.IntN(len(words))])
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, 1 << 40}[r.IntN(4)])
	case reflect.Uint64:
		v.SetUint([]uint64{0, 7, 1<<64 - 1}[r.IntN(3)])
	case reflect.Float64:
		v.SetFloat([]float64{0, 0.25, 1e-7, 123456.789, 1e21, 1e20, -3}[r.IntN(7)])
	default:
		panic(fmt.Sprintf("a field of %s", v.Type()))
	}
}

// TestMembersAgree holds what is written out against encoding/json, which knows the
// structs' tags.
func TestMembersAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	w := newObjects(Options{})
	for i := range 20_000 {
		e := []ledger.Event{&ledger.Accepted{}, &ledger.HandedOff{}, &ledger.Attempted{}, &ledger.Bounced{}, &ledger.Refused{}, &ledger.Held{}}[i%6]
		fill(r, reflect.ValueOf(e).Elem())
		var env *envelope
		if r.IntN(2) == 0 {
			env = &envelope{}
			fill(r, reflect.ValueOf(env).Elem())
		}
		got, err := w.line(nil, uint64(i), e.Kind().String(), e, env)
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if want := byReflection(t, i, e, env); string(got) != want {
			t.Fatalf("%T\n got %s want %s", e, got, want)
		}
	}
}

// byReflection makes a line by encoding/json.
func byReflection(t *testing.T, seq int, e ledger.Event, env *envelope) string {
	t.Helper()
	object := func(v any) string {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		return string(harmless(nil, bytes.TrimRight(b.Bytes(), "\n")))
	}
	line := fmt.Sprintf(`{"seq":%d,"event":"%s",%s`, seq, e.Kind(), strings.TrimSuffix(object(e)[1:], "}"))
	if env != nil {
		if o := object(env); o != "{}" {
			line += `,"envelope":` + o
		}
	}
	return line + "}\n"
}

// TestMembersFail: what encoding/json refuses is refused.
func TestMembersFail(t *testing.T) {
	w := newObjects(Options{})
	for _, e := range []ledger.Event{&ledger.Refused{Time: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}, &ledger.Held{Time: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		if b, err := w.line([]byte("before"), 1, e.Kind().String(), e, nil); err == nil || string(b) != "before" {
			t.Errorf("%+v: %q, %v", e, b, err)
		}
	}
}
