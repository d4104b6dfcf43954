// Package oracle holds package message against enmime, which is lenient too. It is a
// module of its own, so that what enmime needs weighs on nobody else (record 10).
package oracle

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jhillyerd/enmime/v2"

	"postern.dev/postern/internal/message"
)

// ours counts parts without parts and their decoded octets; what a message within a
// message holds is not looked into.
func ours(t *testing.T, msg []byte) (parts, octets int) {
	t.Helper()
	if err := message.Walk(msg, message.Limits{}, func(p *message.Part) error {
		if strings.HasPrefix(p.Type, "multipart/") && p.Parts() != nil {
			return nil
		}
		parts++
		octets += len(bytes.TrimSpace(p.Decoded()))
		if strings.HasPrefix(p.Type, "message/") {
			return message.ErrSkipPart
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return parts, octets
}

// theirs counts the same; an error where enmime gives up.
func theirs(msg []byte) (parts, octets int, err error) {
	root, err := enmime.NewParser(enmime.RawContent(true)).ReadParts(bytes.NewReader(msg))
	if err != nil {
		return 0, 0, err
	}
	var walk func(p *enmime.Part)
	walk = func(p *enmime.Part) {
		for ; p != nil; p = p.NextSibling {
			if p.FirstChild != nil {
				walk(p.FirstChild)
				continue
			}
			parts++
			octets += len(bytes.TrimSpace(p.Content))
		}
	}
	walk(root)
	return parts, octets, nil
}

// TestCorpusAgainstEnmime: on no mail of the corpus does enmime find a part that we do
// not.
func TestCorpusAgainstEnmime(t *testing.T) {
	dir := os.Getenv("POSTERN_CORPUS")
	if dir == "" {
		dir = "../../../shared/corpus"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no corpus of real mail: set POSTERN_CORPUS to a folder of it")
	}
	same, more, gaveUp, short := 0, 0, 0, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || d.IsDir() || ext != ".eml" && ext != ".txt" {
			return err
		}
		msg, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		parts, octets := ours(t, msg)
		wantParts, wantOctets, err := theirs(msg)
		switch {
		case err != nil:
			gaveUp++
		case parts < wantParts:
			short++
			t.Errorf("%s: %d parts and %d octets, enmime finds %d and %d", filepath.Base(path), parts, octets, wantParts, wantOctets)
		case parts > wantParts || octets > wantOctets:
			more++
		default:
			same++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d the same, %d with more of ours, %d where enmime gives up, %d with less", same, more, gaveUp, short)
}
