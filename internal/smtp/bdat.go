package smtp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// bdatTransfer is a message that comes in chunks (RFC 3030): the session reads from
// one end of a pipe in a goroutine that the connection waits for.
type bdatTransfer struct {
	w     *io.PipeWriter
	reply chan *Reply
	size  int64
	ends  time.Time // the whole message must be here by then
	check lineChecker
	err   error
}

var errAborted = errors.New("transfer aborted")

// abort ends a transfer that will not be completed and waits for the session.
func (b *bdatTransfer) abort() {
	b.w.CloseWithError(errAborted)
	<-b.reply
}

// lineChecker finds bare CR and LF and over-long lines in octets that come in parts.
type lineChecker struct {
	cr   bool
	line int
	max  int
}

func (l *lineChecker) write(p []byte) error {
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n\x00")
		n := i
		if i < 0 {
			n = len(p)
		}
		if n > 0 && l.cr {
			return ErrBareLine
		}
		if l.line += n; l.line > l.max {
			return ErrLineTooLong
		}
		if i < 0 {
			return nil
		}
		switch p[i] {
		case 0:
			return ErrNUL
		case '\r':
			if l.cr {
				return ErrBareLine
			}
			l.cr = true
		default:
			if !l.cr {
				return ErrBareLine
			}
			l.cr, l.line = false, 0
		}
		p = p[i+1:]
	}
	return nil
}

func (c *conn) cmdBdat(ctx context.Context, args string) *Reply {
	f := strings.Fields(args)
	if len(f) == 0 || len(f) > 2 || (len(f) == 2 && !strings.EqualFold(f[1], "LAST")) {
		return closing501()
	}
	n, ok := decimal(f[0])
	if !ok {
		return closing501()
	}
	last := len(f) == 2
	if !c.mail || c.rcpts == 0 {
		return c.skipChunk(n, replySequence)
	}
	if c.bdat == nil {
		c.beginBdat(ctx)
	}
	b := c.bdat
	if n > c.server.limits.Size-b.size { // not a sum: it could overflow
		b.err = ErrTooLarge
		if n > c.drainBound() {
			r := c.refuseBdat(b.err)
			r.Close = true
			return r
		}
	}
	b.size += n
	if reply := c.chunk(n); reply != nil {
		return reply
	}
	if b.err == nil && last && b.check.cr {
		b.err = ErrBareLine
	}
	if b.err != nil {
		return c.refuseBdat(b.err)
	}
	if !last {
		return &Reply{Code: 250, Enhanced: EnhancedCode{2, 0, 0}, Lines: []string{strconv.FormatInt(n, 10) + " octets received"}}
	}
	b.w.Close()
	reply := <-b.reply
	c.bdat = nil
	c.reset()
	return c.concluded(reply)
}

// closing501 refuses a BDAT whose length is not known: what follows cannot be told
// from commands.
func closing501() *Reply {
	return &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Lines: []string{"bad BDAT"}, Close: true}
}

func (c *conn) beginBdat(ctx context.Context) {
	r, w := io.Pipe()
	b := &bdatTransfer{w: w, reply: make(chan *Reply, 1), ends: c.server.Now().Add(c.server.limits.Data), check: lineChecker{max: c.server.limits.TextLine}}
	c.bdat = b
	go func() {
		defer r.CloseWithError(errAborted) // nobody reads any more: the connection must not wait
		defer func() {
			if p := recover(); p != nil {
				c.server.Log.Error("session panicked", "panic", p)
				b.reply <- &Reply{Code: 421, Enhanced: EnhancedCode{4, 3, 0}, Lines: []string{"internal error"}, Close: true}
			}
		}()
		b.reply <- c.session.Data(ctx, r)
	}()
}

// chunk passes n octets on. A reply means that the connection cannot go on.
func (c *conn) chunk(n int64) *Reply {
	b := c.bdat
	c.until(b.ends)
	buf := make([]byte, min(n, 32<<10))
	for n > 0 {
		k, err := io.ReadFull(c.r, buf[:min(n, int64(len(buf)))])
		if err != nil {
			c.quit = true
			b.abort()
			c.bdat = nil
			return &Reply{Code: 421, Enhanced: EnhancedCode{4, 4, 2}, Lines: []string{"timeout"}, Close: true}
		}
		n -= int64(k)
		if b.err == nil {
			b.err = b.check.write(buf[:k])
		}
		if b.err == nil {
			// When the session has refused early nobody reads: its reply comes at the end.
			_, _ = b.w.Write(buf[:k])
		}
	}
	return nil
}

func (c *conn) refuseBdat(cause error) *Reply {
	c.bdat.abort()
	c.bdat = nil
	c.reset()
	switch {
	case errors.Is(cause, ErrTooLarge):
		return &Reply{Code: 552, Enhanced: EnhancedCode{5, 3, 4}, Lines: []string{"message too large"}}
	case errors.Is(cause, ErrNUL):
		return &Reply{Code: 550, Enhanced: EnhancedCode{5, 6, 0}, Lines: []string{"NUL in message"}}
	case errors.Is(cause, ErrLineTooLong):
		return &Reply{Code: 552, Enhanced: EnhancedCode{5, 6, 0}, Lines: []string{"line too long"}, Close: true}
	}
	return &Reply{Code: 550, Enhanced: EnhancedCode{5, 6, 11}, Lines: []string{"bare CR or LF"}, Close: true}
}

// skipChunk reads a chunk that nobody wants, within the size limit.
func (c *conn) skipChunk(n int64, reply *Reply) *Reply {
	if n > c.drainBound() {
		return &Reply{Code: 552, Enhanced: EnhancedCode{5, 3, 4}, Lines: []string{"message too large"}, Close: true}
	}
	c.deadline(c.server.limits.Data)
	if err := discard(c.r, n); err != nil {
		c.quit = true
		return nil
	}
	return reply
}

func discard(r *bufio.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	return err
}
