package queue

import (
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/spool"
)

// class is how urgent mail is.
type class uint8

// The classes, the most urgent first.
const (
	high class = iota
	normal
	bulk
	classes
)

func classOf(p spool.Priority) class {
	switch p {
	case spool.High:
		return high
	case spool.Bulk:
		return bulk
	}
	return normal
}

// flow is what recipients have in common that share their turn: one campaign of one
// customer, of one priority and by one pool.
type flow struct {
	flowKey
	number uint32
	refs   int // items
}

type flowKey struct {
	pool     string // "" for Postern's own choice
	customer string
	campaign string
	class    class
	combine  bool // recipients of one message may share a transaction
}

// maxCampaigns bounds how many campaigns of all customers are told apart at once. What
// comes beyond shares one turn per customer: the header that names a campaign is the
// customer's, and may be different on each message. A campaign costs some 430 octets at
// its first site (BenchmarkCampaigns), so these are 215 MB.
const maxCampaigns = 500_000

// flows numbers the flows. The zero value has none.
type flows struct {
	byKey     map[flowKey]*flow
	byNumber  []*flow
	free      []uint32
	campaigns int
	shared    int // recipients so far whose campaign was one too many
}

func keyOf(m *spool.Message, r *spool.Recipient) flowKey {
	k := flowKey{pool: r.Pool, customer: m.Customer, campaign: m.Campaign, class: classOf(m.Priority)}
	// Each recipient of a customer's message has a stamp of its own.
	k.combine = policy.Origin(m.Origin) != policy.Customer
	return k
}

// take gives the flow of a key and counts one more item of it.
func (f *flows) take(k flowKey) *flow {
	if f.byKey == nil {
		f.byKey = map[flowKey]*flow{}
	}
	x := f.byKey[k]
	if x == nil && k.campaign != "" && f.campaigns >= maxCampaigns {
		k.campaign = ""
		f.shared++
		x = f.byKey[k]
	}
	if x == nil {
		x = &flow{flowKey: k}
		if n := len(f.free); n > 0 {
			x.number, f.free = f.free[n-1], f.free[:n-1]
			f.byNumber[x.number] = x
		} else {
			x.number = uint32(len(f.byNumber))
			f.byNumber = append(f.byNumber, x)
		}
		f.byKey[k] = x
		if k.campaign != "" {
			f.campaigns++
		}
	}
	x.refs++
	return x
}

// give counts one item less.
func (f *flows) give(number uint32) {
	x := f.byNumber[number]
	if x.refs--; x.refs > 0 {
		return
	}
	delete(f.byKey, x.flowKey)
	f.byNumber[number] = nil
	f.free = append(f.free, number)
	if x.campaign != "" {
		f.campaigns--
	}
}

// words numbers texts that many items share. Number 0 is the empty text.
type words struct {
	byText   map[string]uint32
	byNumber []word
	free     []uint32
}

type word struct {
	text string
	refs int
}

func (w *words) take(text string) uint32 {
	if text == "" {
		return 0
	}
	if w.byText == nil {
		w.byText, w.byNumber = map[string]uint32{}, make([]word, 1)
	}
	n, ok := w.byText[text]
	if !ok {
		if k := len(w.free); k > 0 {
			n, w.free = w.free[k-1], w.free[:k-1]
		} else {
			n = uint32(len(w.byNumber))
			w.byNumber = append(w.byNumber, word{})
		}
		w.byText[text], w.byNumber[n] = n, word{text: text}
	}
	w.byNumber[n].refs++
	return n
}

func (w *words) give(n uint32) {
	if n == 0 {
		return
	}
	if w.byNumber[n].refs--; w.byNumber[n].refs == 0 {
		delete(w.byText, w.byNumber[n].text)
		w.byNumber[n] = word{}
		w.free = append(w.free, n)
	}
}

func (w *words) text(n uint32) string {
	if n == 0 {
		return ""
	}
	return w.byNumber[n].text
}
