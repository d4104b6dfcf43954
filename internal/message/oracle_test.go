package message_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"testing"

	gomessage "github.com/emersion/go-message"

	"postern.dev/postern/internal/message"
)

// leaf is a part without parts: its type and its decoded body.
type leaf struct {
	kind string
	body string
}

// leaves reads them as this package does. What a message within a message holds is not
// looked into, as the other reader does not.
func leaves(t *testing.T, msg []byte) (out []leaf) {
	t.Helper()
	if err := message.Walk(msg, message.Limits{}, func(p *message.Part) error {
		switch {
		case strings.HasPrefix(p.Type, "multipart/") && p.Parts() != nil:
			return nil
		case strings.HasPrefix(p.Type, "message/"):
			out = append(out, leaf{p.Type, string(p.Decoded())})
			return message.ErrSkipPart
		}
		out = append(out, leaf{p.Type, string(p.Decoded())})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// otherLeaves reads them as go-message does; an error where it gives up.
func otherLeaves(msg []byte) (out []leaf, err error) {
	e, err := gomessage.ReadWithOptions(bytes.NewReader(msg), &gomessage.ReadOptions{MaxHeaderBytes: -1})
	if err != nil && !gomessage.IsUnknownCharset(err) {
		return nil, fmt.Errorf("read: %w", err)
	}
	err = e.Walk(func(_ []int, e *gomessage.Entity, err error) error {
		if err != nil && !gomessage.IsUnknownCharset(err) {
			return err
		}
		kind, _, _ := mime.ParseMediaType(e.Header.Get("Content-Type"))
		if kind == "" {
			kind = "text/plain"
		}
		if strings.HasPrefix(kind, "multipart/") && e.MultipartReader() != nil {
			return nil
		}
		body, err := io.ReadAll(e.Body)
		out = append(out, leaf{kind, string(body)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("walk: %w", err)
	}
	return out, nil
}

// TestCorpusAgrees compares parts and decoded bodies of every mail of the corpus with
// go-message, where that does not give up. Mail that it reads otherwise is counted by
// what is the matter: each kind has been looked into, and ours loses nothing there.
func TestCorpusAgrees(t *testing.T) {
	same, fails := 0, 0
	differ := map[string][]string{}
	mails(t, func(name string, msg []byte) {
		if !bytes.Contains(msg[:min(len(msg), 16<<10)], []byte(":")) || bytes.HasPrefix(msg, []byte("From ")) {
			return // no mail, or a mailbox file, which the other reader does not read
		}
		want, err := otherLeaves(msg)
		if err != nil {
			fails++
			return
		}
		got := leaves(t, msg)
		if slices.EqualFunc(got, want, sameLeaf) {
			same++
			return
		}
		differ[why(got, want)] = append(differ[why(got, want)], name)
	})
	for reason, names := range differ {
		t.Logf("%s: %d, as %s", reason, len(names), names[0])
	}
	t.Logf("%d mails the same; the other reader gives up %d", same, fails)
	if lost := differ["fewer octets"]; len(lost) > 0 {
		t.Errorf("octets lost of %v", lost)
	}
}

// sameLeaf compares without the line ends, which the other reader leaves at the end of
// some parts.
func sameLeaf(a, b leaf) bool {
	return a.kind == b.kind && strings.TrimRight(strings.ReplaceAll(a.body, "\r\n", "\n"), "\n") == strings.TrimRight(strings.ReplaceAll(b.body, "\r\n", "\n"), "\n")
}

func why(got, want []leaf) string {
	octets := func(all []leaf) (n int) {
		for _, l := range all {
			n += len(strings.TrimSpace(strings.ReplaceAll(l.body, "\r\n", "\n")))
		}
		return n
	}
	switch {
	case len(got) > len(want):
		return "more parts"
	case octets(got) > octets(want):
		return "more octets"
	case octets(got) < octets(want) && len(got) <= len(want):
		return "fewer octets"
	}
	return "other types"
}
