package suppress

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ImportOptions say what a file does not.
type ImportOptions struct {
	Customer string    // whose list; "" is everybody's, unless a column says whose
	Own      bool      // a column may not name another customer than Customer
	Reason   Reason    // where no column has one; Manual where zero
	Source   string    // for the entries
	Expires  time.Time // where no column has one; zero for never
	MaxBad   int64     // stop behind so many bad lines; 10,000 where zero, none where negative
	Progress func(lines int64)
}

// Fault is one bad line.
type Fault struct {
	Line   int64  `json:"line"`
	Column int    `json:"column"` // octet, from 1
	Text   string `json:"text"`   // what is wrong; never the line itself, which may be somebody's address
}

// Imported is what came of an import.
type Imported struct {
	Lines   int64   `json:"lines"`
	Entries int64   `json:"entries"` // that are on the list now, durably; the same address twice counts twice
	Bad     int64   `json:"bad"`
	Faults  []Fault `json:"faults,omitempty"`  // the first hundred
	Stopped string  `json:"stopped,omitempty"` // why it was given up before the end; what stands before is on the list
}

// maxFaults bounds what is told of bad lines.
const maxFaults = 100

// importBatch is up to how much an import is written as one batch, octets.
const importBatch = memTable / 2

// ErrBusy tells that an import is under way; there is one at a time.
var ErrBusy = errors.New("another import is under way")

// importer is one import.
type importer struct {
	s       *Store
	o       ImportOptions
	out     Imported
	columns columns
	sorter  sorter
	now     time.Time
	key     []byte
	value   []byte
	broken  error // nothing more can be taken up
}

// Import reads addresses, one a line, or with more columns separated by commas,
// semicolons or tabs; a first line without "@" names them: address, customer, reason,
// detail, created, expires, source. It may be packed with gzip. What stands on the list
// already is replaced. Memory is bounded, whatever the file holds; bad lines are passed
// over, counted and told of with their line and column. The list goes on answering
// meanwhile. All comes on the list in one step at the end, durably; an error, a failure to
// read or to store, or a crash leaves it as it was.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (*Imported, error) {
	if !s.importing.TryLock() {
		return nil, fmt.Errorf("import suppression list: %w", ErrBusy)
	}
	defer s.importing.Unlock()
	if o.MaxBad == 0 {
		o.MaxBad = 10_000
	}
	if o.Reason == 0 {
		o.Reason = Manual
	}
	if len(o.Customer) > maxCustomer {
		return nil, errCustomer
	}
	im := &importer{s: s, o: o, now: s.o.Now(), columns: columns{separator: ','}, sorter: sorter{fs: s.fs, dir: s.dir, most: s.o.Buffer}}
	err := s.Err()
	if err == nil {
		err = s.fs.MkdirAll(s.dir, 0o700)
	}
	if err == nil {
		s.watchErasures(true)
		err = im.run(ctx, r)
	}
	if err == nil {
		err = im.finish(ctx)
	}
	err = errors.Join(err, s.eraseAgain(ctx, err == nil), s.fs.RemoveAll(s.dir))
	if err != nil {
		im.out.Entries = 0
		return &im.out, fmt.Errorf("import suppression list: line %d: %w", im.out.Lines, err)
	}
	return &im.out, nil
}

func (im *importer) run(ctx context.Context, r io.Reader) error {
	l, err := newLines(r)
	if err != nil {
		return err
	}
	var parts [][]byte
	var at []int
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		im.out.Lines = l.number
		switch {
		case errors.Is(err, errLong):
			im.fault(1, err)
		case err != nil:
			return err
		case len(line) == 0 || line[0] == '#':
		case im.columns.named == nil && im.columns.begin(line):
			// the names; the entries follow
		case im.columns.named == nil:
			im.fault(1, errors.New("neither an address nor the names of columns"))
		default:
			parts, at, err = fields(line, im.columns.separator, parts[:0], at[:0])
			im.take(parts, at, err)
		}
		if im.o.MaxBad >= 0 && im.out.Bad > im.o.MaxBad {
			im.out.Stopped = fmt.Sprintf("line %d: more than %d bad lines", l.number, im.o.MaxBad)
			return nil
		}
		if im.broken != nil {
			return im.broken
		}
		if l.number%4096 == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if im.o.Progress != nil {
				im.o.Progress(im.out.Lines)
			}
		}
	}
}

func (im *importer) fault(column int, err error) {
	im.out.Bad++
	if len(im.out.Faults) < maxFaults {
		im.out.Faults = append(im.out.Faults, Fault{Line: im.out.Lines, Column: column, Text: err.Error()})
	}
}

// take reads one line's fields into the batch.
func (im *importer) take(parts [][]byte, at []int, err error) {
	if err != nil {
		im.fault(at[len(at)-1], err)
		return
	}
	if len(parts) > len(im.columns.named) {
		im.fault(at[len(im.columns.named)], fmt.Errorf("%d fields where %d are expected", len(parts), len(im.columns.named)))
		return
	}
	e := Entry{Customer: im.o.Customer, Reason: im.o.Reason, Source: im.o.Source, Created: im.now, Expires: im.o.Expires}
	var found bool
	for i, part := range parts {
		if err := im.field(&e, im.columns.named[i], part, &found); err != nil {
			im.fault(at[i], err)
			return
		}
	}
	if !found {
		im.fault(1, errors.New("no address"))
		return
	}
	im.put(&e)
}

// put takes the entry up, without memory of its own.
func (im *importer) put(e *Entry) {
	im.s.known.add(e.Customer)
	im.key = entryKey(im.key[:0], e.Customer, e.Hash)
	im.value = e.encode(im.value[:0])
	im.broken = im.sorter.add(im.key, im.value)
	if im.broken == nil && !e.Expires.IsZero() {
		im.broken = im.sorter.add(expiryKey(e, im.key), nil)
	}
	im.out.Entries++
}

// field reads one field into the entry.
func (im *importer) field(e *Entry, name string, value []byte, found *bool) (err error) {
	if !utf8.Valid(value) {
		return fmt.Errorf("%s is not UTF-8", name)
	}
	if len(value) == 0 {
		return nil
	}
	switch name {
	case "address":
		*found = true
		return im.address(e, string(value))
	case "customer":
		return im.customer(e, string(value))
	case "reason":
		e.Reason, err = ParseReason(string(value))
	case "detail":
		e.Detail = string(value)
	case "source":
		e.Source = string(value)
	case "created":
		e.Created, err = parseTime(string(value))
	case "expires":
		e.Expires, err = parseTime(string(value))
	}
	return err
}

// address reads an address, or a hash as Export writes it where there is none.
func (im *importer) address(e *Entry, value string) error {
	if rest, ok := strings.CutPrefix(value, "hash:"); ok {
		id, digits, _ := strings.Cut(rest, ":")
		if id != im.s.secret.id() {
			return errors.New("hash was made with another key")
		}
		if n, err := hex.Decode(e.Hash[:], []byte(digits[:min(len(digits), 2*len(e.Hash))])); err != nil || n != len(e.Hash) || len(digits) != 2*n {
			return errors.New("hash is not 32 hexadecimal digits")
		}
		return nil
	}
	a, err := Normalise(value)
	if err != nil {
		return err
	}
	e.Hash = im.s.secret.hash(a)
	if !im.s.hashed.Load() {
		e.Address = a.String()
	}
	return nil
}

func (im *importer) customer(e *Entry, value string) error {
	switch {
	case len(value) > maxCustomer:
		return errCustomer
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == '@' || r == 0x7f }):
		return errors.New("not a customer's name")
	case im.o.Own && value != im.o.Customer:
		return errors.New("another customer than the import is for")
	}
	e.Customer = value
	return nil
}

// pace waits while the store is behind with its work.
func (s *Store) pace(ctx context.Context) error {
	const patience = 5 * time.Millisecond
	for {
		m := s.db.Metrics()
		if m.Levels[0].Sublevels < 24 && m.MemTable.Size < (memTables-1)*memTable {
			return nil
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// columns are what the fields of a line are.
type columns struct {
	separator byte
	named     []string
}

// begin settles the columns by the first line that has names or an address. It reports
// whether it has names; with neither, nothing is settled.
func (c *columns) begin(line []byte) bool {
	text := string(line)
	separator := byte(',')
	if i := strings.IndexAny(text, "\t;,"); i >= 0 {
		separator = text[i]
	}
	if strings.ContainsRune(text, '@') || strings.HasPrefix(text, "hash:") {
		c.separator = separator
		c.named = []string{"address", "customer", "reason", "detail", "created", "expires", "source"}
		return false
	}
	parts, _, err := fields(line, separator, nil, nil)
	if err != nil {
		return false
	}
	var named []string
	known := false
	for _, p := range parts {
		name := columnName(string(p))
		known = known || name == "address"
		named = append(named, name)
	}
	if known {
		c.separator, c.named = separator, named
	}
	return known
}

// columnName knows what others call a column; one that means nothing here is read and
// not kept.
func columnName(s string) string {
	switch s = strings.ToLower(strings.TrimSpace(s)); s {
	case "address", "email", "e-mail", "email_address", "email address", "recipient", "mail":
		return "address"
	case "customer", "account", "subaccount", "subaccount_id":
		return "customer"
	case "reason", "type", "suppression_reason":
		return "reason"
	case "detail", "category", "description", "bounce_category":
		return "detail"
	case "created", "created_at", "created_on", "time", "date", "updated":
		return "created"
	case "expires", "expires_at", "until":
		return "expires"
	case "source":
		return "source"
	}
	return "-"
}

// parseTime reads a time as exports have it; without a zone it is UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 && n < 1<<40 {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Time{}, errors.New("not a time such as 2026-11-01T12:00:00Z")
}
