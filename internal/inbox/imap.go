package inbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// IMAP reads a mailbox (RFC 9051, RFC 3501), by IDLE where the server has it and every
// Every at least. A message is marked, moved or deleted only after Deliver has made it
// durable.
type IMAP struct {
	Name     string
	Address  string // host:port
	TLS      string // implicit, starttls, none
	Config   *tls.Config
	User     string
	Password func() (string, error)
	Mailbox  string
	Done     string // seen, delete, move
	MoveTo   string
	Every    time.Duration
	Deliver  Deliver
	After    func(time.Duration) <-chan time.Time
	Log      *slog.Logger

	validity  uint32
	delivered map[imap.UID]bool // durable, but not yet marked, moved or deleted
}

// maxFetched bounds what is fetched of one message.
const maxFetched = 8 << 20

// dialTime bounds how long a connection may take.
const dialTime = 30 * time.Second

// Follow reads until ctx ends. A connection that breaks is opened again, after a pause.
func (m *IMAP) Follow(ctx context.Context) {
	poll(ctx, m.Name, m.Every, m.After, m.Log, m.Session)
}

// Session connects and reads until something fails or ctx ends.
func (m *IMAP) Session(ctx context.Context) error {
	news := make(chan struct{}, 1)
	c, err := m.connect(ctx, news)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", m.Address, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := m.enter(c); err != nil {
		return err
	}
	for {
		if err := m.drain(ctx, c); err != nil {
			return err
		}
		if err := m.await(ctx, c, news); err != nil {
			return err
		}
	}
}

func (m *IMAP) connect(ctx context.Context, news chan<- struct{}) (*imapclient.Client, error) {
	d := net.Dialer{Timeout: dialTime}
	conn, err := d.DialContext(ctx, "tcp", m.Address)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(m.Address)
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if m.Config != nil {
		cfg = m.Config.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	o := &imapclient.Options{TLSConfig: cfg, UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: func(d *imapclient.UnilateralDataMailbox) {
		if d.NumMessages != nil {
			select {
			case news <- struct{}{}:
			default:
			}
		}
	}}}
	// Until it is a client's, nothing else ends a connection on which nothing comes.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(dialTime))
	switch m.TLS {
	case "implicit":
		t := tls.Client(conn, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		_ = conn.SetDeadline(time.Time{})
		return imapclient.New(t, o), nil
	case "starttls":
		c, err := imapclient.NewStartTLS(conn, o)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		_ = conn.SetDeadline(time.Time{})
		return c, nil
	}
	_ = conn.SetDeadline(time.Time{})
	return imapclient.New(conn, o), nil
}

// enter signs in and opens the mailbox.
func (m *IMAP) enter(c *imapclient.Client) error {
	if err := c.WaitGreeting(); err != nil {
		return fmt.Errorf("greeting of %s: %w", m.Address, err)
	}
	password, err := m.Password()
	if err != nil {
		return err
	}
	if err := c.Login(m.User, password).Wait(); err != nil {
		return fmt.Errorf("sign in at %s: %w", m.Address, err)
	}
	data, err := c.Select(m.Mailbox, nil).Wait()
	if err != nil {
		return fmt.Errorf("open mailbox %q: %w", m.Mailbox, err)
	}
	if data.UIDValidity != m.validity || m.delivered == nil {
		m.validity, m.delivered = data.UIDValidity, map[imap.UID]bool{}
	}
	caps := c.Caps()
	if m.Done != "seen" && !caps.Has(imap.CapUIDPlus) && !caps.Has(imap.CapIMAP4rev2) && (m.Done == "delete" || !caps.Has(imap.CapMove)) {
		return fmt.Errorf("%s cannot delete one message alone (UIDPLUS): say done = \"seen\"", m.Address)
	}
	return nil
}

// drain deals with every message that is not dealt with yet. One that cannot be fetched
// holds up no other.
func (m *IMAP) drain(ctx context.Context, c *imapclient.Client) error {
	criteria := &imap.SearchCriteria{} // also what is marked as deleted: a crash may have come before its end
	if m.Done == "seen" {
		criteria.NotFlag = []imap.Flag{imap.FlagSeen}
	}
	found, err := c.UIDSearch(criteria, nil).Wait()
	if err != nil {
		return fmt.Errorf("search %q: %w", m.Mailbox, err)
	}
	var errs []error
	for _, uid := range found.AllUIDs() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := m.one(ctx, c, uid)
		var refused *imap.Error
		switch {
		case errors.As(err, &refused):
			errs = append(errs, err) // the server says no to this one
		case err != nil:
			return err
		}
	}
	return errors.Join(errs...)
}

// one fetches, delivers and puts away one message.
func (m *IMAP) one(ctx context.Context, c *imapclient.Client, uid imap.UID) error {
	set := imap.UIDSetNum(uid)
	if !m.delivered[uid] {
		section := &imap.FetchItemBodySection{Peek: true, Partial: &imap.SectionPartial{Size: maxFetched}}
		got, err := c.Fetch(set, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
		if err != nil {
			return fmt.Errorf("fetch message %d: %w", uid, err)
		}
		var raw []byte
		for _, g := range got {
			if g.UID == uid && len(g.BodySection) > 0 {
				raw = g.BodySection[0].Bytes
			}
		}
		if len(raw) == 0 {
			return nil // it has gone, or is empty
		}
		if err := m.Deliver(ctx, ofFile(raw)); err != nil {
			return err
		}
		m.delivered[uid] = true
	}
	if err := m.putAway(c, set); err != nil {
		return fmt.Errorf("put away message %d: %w", uid, err)
	}
	delete(m.delivered, uid)
	return nil
}

func (m *IMAP) putAway(c *imapclient.Client, set imap.UIDSet) error {
	switch m.Done {
	case "move":
		_, err := c.Move(set, m.MoveTo).Wait()
		return err
	case "delete":
		if err := c.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
			return err
		}
		return c.UIDExpunge(set).Close()
	}
	return c.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagSeen}}, nil).Close()
}

// await waits for news, or until it is time to look again.
func (m *IMAP) await(ctx context.Context, c *imapclient.Client, news <-chan struct{}) error {
	wait := m.After(m.Every)
	if !c.Caps().Has(imap.CapIdle) && !c.Caps().Has(imap.CapIMAP4rev2) {
		select {
		case <-wait:
			return c.Noop().Wait()
		case <-c.Closed():
			return errors.New("the server has closed the connection")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	idle, err := c.Idle()
	if err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	select {
	case <-news:
	case <-wait:
	case <-c.Closed():
		return errors.New("the server has closed the connection")
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := idle.Close(); err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	return idle.Wait()
}
