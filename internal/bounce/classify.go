package bounce

import (
	"strings"
	"sync"

	"postern.dev/postern/internal/ahocorasick"
)

// Result is what a refusal means.
type Result struct {
	Category Category
	// Hard: the refusal is permanent and about the address itself: mail to it will not
	// arrive, whoever sends it.
	Hard bool
	// Suppress: Hard, and said clearly enough to keep the address from being mailed
	// again without anybody looking.
	Suppress bool
}

// Classifier holds the rules in the form in which they are fast. It never changes.
type Classifier struct {
	rules   []rule
	needs   [][]int32 // per rule: its phrases
	of      [][]int32 // per phrase: the rules that it belongs to, in order
	phrases *ahocorasick.Automaton
	scratch sync.Pool
}

// work is the memory of one classification.
type work struct {
	text  []byte
	found []int32
	seen  []bool // by phrase
}

// circumstances are what a rule may ask for beside the text.
type circumstances struct {
	class    byte   // '4', '5'
	status   string // subject and detail of the status code, "" where they say nothing
	provider string
	bare     bool // without a reply code
}

// New makes the Classifier.
func New() *Classifier {
	c := &Classifier{rules: rules()}
	number := map[string]int32{}
	var texts []string
	var values []int32
	for r := range c.rules {
		var need []int32
		for p := range strings.SplitSeq(c.rules[r].when, " & ") {
			p = phrase(p)
			n, known := number[p]
			if !known {
				n = int32(len(texts))
				number[p] = n
				texts, values, c.of = append(texts, p), append(values, n), append(c.of, nil)
			}
			need = append(need, n)
			c.of[n] = append(c.of[n], int32(r))
		}
		c.needs = append(c.needs, need)
	}
	c.phrases = ahocorasick.New(texts, values)
	c.scratch.New = func() any {
		return &work{text: make([]byte, 0, maxText+64), found: make([]int32, 0, 64), seen: make([]bool, len(texts))}
	}
	return c
}

// phrase brings a rule's words into the form that normal gives a reply. They match the
// beginnings of words; "$" ends a word.
func phrase(p string) string {
	if whole, ok := strings.CutSuffix(p, "$"); ok {
		return " " + whole + " "
	}
	return " " + p
}

// Classify reads a refusal: its reply code (0 where there was no reply), its enhanced
// status code ("" where there was none), its text, which may begin with both, or the
// cause in our own words, and the name of the mailbox provider ("google", "microsoft",
// "yahoo"; "" where it is unknown). It is safe for concurrent use.
func (c *Classifier) Classify(code int, enhanced, text, provider string) Result {
	if code == 0 {
		code = codeOf(text)
	}
	status := worth(enhanced)
	if status == "" {
		status = worth(enhancedIn(text))
	}
	class := classOf(code, status, enhanced)
	strong, weak := c.read(text, circumstances{class, status, provider, code == 0})
	switch {
	case strong >= 0:
		return result(c.rules[strong].is, class, true)
	case status != "":
		if is, known := byStatus(status); known {
			return result(is, class, true)
		}
	}
	if weak >= 0 {
		return result(c.rules[weak].is, class, false)
	}
	return result(bySubject(enhanced, text, code), class, false)
}

func result(is Category, class byte, sure bool) Result {
	hard := is.aboutAddress() && class == '5'
	return Result{Category: is, Hard: hard, Suppress: hard && sure}
}

// read finds the first clear and the first vague rule whose phrases all occur; -1 for
// none.
func (c *Classifier) read(text string, at circumstances) (strong, weak int32) {
	w := c.scratch.Get().(*work)
	defer c.scratch.Put(w)
	w.text = normal(w.text[:0], text)
	w.found = ahocorasick.Scan(c.phrases, w.text, w.found[:0])
	for _, p := range w.found {
		w.seen[p] = true
	}
	strong, weak = -1, -1
	for _, p := range w.found {
		for _, r := range c.of[p] {
			best := &strong
			if c.rules[r].vague {
				best = &weak
			}
			if (*best < 0 || r < *best) && c.holds(r, w.seen, at) {
				*best = r
			}
		}
	}
	for _, p := range w.found {
		w.seen[p] = false
	}
	return strong, weak
}

func (c *Classifier) holds(r int32, seen []bool, at circumstances) bool {
	rule := &c.rules[r]
	if (rule.class != 0 && rule.class != at.class) || (rule.from != "" && rule.from != at.provider) || (rule.code != "" && rule.code != at.status) {
		return false
	}
	if rule.bare && !at.bare {
		return false
	}
	for _, p := range c.needs[r] {
		if !seen[p] {
			return false
		}
	}
	return true
}

// codeOf reads the reply code at the front of a text.
func codeOf(text string) int {
	if len(text) >= 3 && (text[0] == '4' || text[0] == '5') && digit(text[1]) && digit(text[2]) && (len(text) == 3 || text[3] == ' ' || text[3] == '-') {
		return int(text[0]-'0')*100 + int(text[1]-'0')*10 + int(text[2]-'0')
	}
	return 0
}

// enhancedIn finds the first enhanced status code near the front of a text, where it
// stands as a word of its own, as in "550 5.1.1 ..." or "550 #5.1.0 ...".
func enhancedIn(text string) string {
	for i := 0; i < len(text) && i < 400; i++ {
		if (text[i] != '4' && text[i] != '5') || (i > 0 && (letter(text[i-1]) || digit(text[i-1]) || text[i-1] == '.')) {
			continue
		}
		if code, _ := enhancedAt(text[i:]); code != "" {
			return code
		}
	}
	return ""
}

// worth gives subject and detail of a status code ("1.1" of "5.1.1") if they say
// anything: a detail of zero, and "7.1", which stands for everything, do not.
func worth(status string) string {
	code, n := enhancedAt(status)
	if code == "" || n != len(status) {
		return ""
	}
	detail := code[2:]
	if detail == "7.1" || strings.HasSuffix(detail, ".0") || strings.HasPrefix(detail, "0.") {
		return ""
	}
	return detail
}

// classOf tells a permanent refusal, '5', from a transient one, '4'. The reply code
// decides where there is one.
func classOf(code int, status, enhanced string) byte {
	switch {
	case code >= 500:
		return '5'
	case code >= 400:
		return '4'
	case len(enhanced) > 1 && (enhanced[0] == '4' || enhanced[0] == '5'):
		return enhanced[0]
	case status != "":
		return '5'
	}
	return '4'
}
