package policy

import "fmt"

// Pos is a place in a configuration file. Line and Column count from 1, Column in
// characters; the zero Pos is no place.
type Pos struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String gives "file:line:column", the form editors jump to, or "-" for no place.
func (p Pos) String() string {
	if p.Line == 0 {
		return "-"
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Expr is a node of a condition. The set of nodes is closed: Literal, List, Field,
// Not, Binary, Call.
type Expr interface {
	Position() Pos
	expr()
}

type (
	// Literal is a constant: bool, string or int64.
	Literal struct {
		Pos   Pos
		Value any
	}
	// List is a list of constants, as the second argument of in().
	List struct {
		Pos   Pos
		Items []Expr
	}
	// Field reads one fact, by its dotted name as written ("rcpt.domain"). In an
	// assert the decision can be read too ("decision.pool").
	Field struct {
		Pos  Pos
		Name string
	}
	// Not negates a condition.
	Not struct {
		Pos Pos
		X   Expr
	}
	// Binary joins two expressions. Pos is that of the operator's left operand.
	Binary struct {
		Pos  Pos
		Op   Op
		L, R Expr
	}
	// Call applies a function of the language: in, matches, within, ends_with, glob,
	// header, has_header, tag.
	Call struct {
		Pos  Pos
		Func string
		Args []Expr
	}
)

// Position tells where the node begins.
func (e *Literal) Position() Pos { return e.Pos }

// Position tells where the node begins.
func (e *List) Position() Pos { return e.Pos }

// Position tells where the node begins.
func (e *Field) Position() Pos { return e.Pos }

// Position tells where the node begins.
func (e *Not) Position() Pos { return e.Pos }

// Position tells where the node begins.
func (e *Binary) Position() Pos { return e.Pos }

// Position tells where the node begins.
func (e *Call) Position() Pos { return e.Pos }

func (*Literal) expr() {}
func (*List) expr()    {}
func (*Field) expr()   {}
func (*Not) expr()     {}
func (*Binary) expr()  {}
func (*Call) expr()    {}

// Op is a binary operator.
type Op string

// The binary operators, spelt as in HCL.
const (
	And Op = "&&"
	Or  Op = "||"
	Eq  Op = "=="
	Ne  Op = "!="
	Lt  Op = "<"
	Le  Op = "<="
	Gt  Op = ">"
	Ge  Op = ">="
)

// Filter is a predicate and what is done where it holds. Filters run top down for
// each recipient by itself; the first final action that applies wins.
type Filter struct {
	Pos  Pos // of the block
	Name string
	If   Expr
	Do   []Action // non-final, in the order of the file; they accumulate
	Then *Final   // nil: the filter is not final
}

// ActionKind names a non-final action.
type ActionKind string

// The non-final actions.
const (
	DoLog       ActionKind = "log"        // Text: what the ledger row is marked with
	DoTag       ActionKind = "tag"        // Text: readable by tag() in the filters below
	DoSetHeader ActionKind = "set_header" // Name, Text: the field replaces its namesakes at hand-off
	DoPool      ActionKind = "pool"       // Text: pool of a later deliver() without one
	DoLimit     ActionKind = "limit"      // Rate: past it, 451
	DoCopy      ActionKind = "copy"       // Rcpt: an envelope copy to a constant address
	DoSetRcpt   ActionKind = "set_rcpt"   // Rcpt: the recipient becomes this constant
)

// Action is one non-final action. Which fields count depends on Kind.
type Action struct {
	Pos  Pos
	Kind ActionKind
	Text string
	Name string
	Rcpt Address
	Rate Rate
}

// Rate is so many recipients in a time, for each customer, or for each peer address
// where there is no customer.
type Rate struct {
	Count   int
	Seconds int
}

// FinalKind names a final action.
type FinalKind string

// The final actions.
const (
	ThenDeliver FinalKind = "deliver" // Pool may be empty: the pool set above, else the default pool
	ThenReject  FinalKind = "reject"  // Code, Enhanced, Text
	ThenDrop    FinalKind = "drop"    // accept and discard, with a ledger row
	ThenHold    FinalKind = "hold"    // accept and keep; Text is the reason
	ThenBounce  FinalKind = "bounce"  // accept and send a DSN to the reverse-path; Text is the reason
	ThenSkip    FinalKind = "skip"    // end of the list: the default decision
)

// Final is a final action.
type Final struct {
	Pos      Pos
	Kind     FinalKind
	Pool     string
	Code     int // 550 where the file gives none
	Enhanced [3]int
	Text     string
}

// Assert is a condition over facts and decision that must hold for every message.
type Assert struct {
	Pos    Pos
	Name   string
	Always Expr
}
