package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/dkim"
	"postern.dev/postern/internal/egress"
)

const dkimHelp = `keygen  makes a key in a file that only its owner can read, and never over another:
        postern dkim keygen KEYFILE
record  prints the TXT records to publish, for a zone file, of all keys or those named
check   asks the node's resolver whether they are published

Exit status of check: 0 all are, 1 one is not, 2 the DNS cannot tell, or bad input.`

func runDKIM(ctx context.Context, e *env, args []string) error {
	f := flags("dkim")
	algorithm := f.String("algorithm", "rsa", "keygen: rsa or ed25519")
	bits := f.Int("bits", dkim.GoodRSA, "keygen: size of an RSA key")
	asJSON := f.Bool("json", false, "record, check: print JSON, one object a line")
	action, args, err := actionOf(f, args, []string{"keygen", "record", "check"})
	if err != nil {
		return err
	}
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if action == "keygen" {
		return dkimKeygen(e, rest, *algorithm, *bits)
	}
	if len(rest) == 0 {
		return &exitError{code: exitUsage, text: "dkim " + action + " takes names of keys, if any, and a configuration file or folder", hint: "postern help dkim"}
	}
	cfg, err := loadConfig(e, rest[len(rest)-1], false, nil)
	if err != nil {
		return err
	}
	keys, err := dkimKeys(cfg, rest[:len(rest)-1])
	if err != nil {
		return err
	}
	if action == "record" {
		return dkimRecords(e, keys, *asJSON)
	}
	return dkimCheck(ctx, e, cfg, keys, *asJSON)
}

// dkimKeygen writes a new key.
func dkimKeygen(e *env, args []string, algorithm string, bits int) error {
	a := dkim.Algorithm(algorithm + "-sha256")
	switch {
	case len(args) != 1:
		return &exitError{code: exitUsage, text: "dkim keygen takes the name of the file to make", hint: "postern help dkim"}
	case a != dkim.RSA && a != dkim.Ed25519:
		return &exitError{code: exitUsage, text: fmt.Sprintf("dkim keygen: algorithm %q is not rsa or ed25519", algorithm)}
	case a == dkim.RSA && (bits < dkim.GoodRSA || bits > 8192):
		return &exitError{code: exitUsage, text: fmt.Sprintf("dkim keygen: an RSA key of %d bits: %d to 8192 are wanted", bits, dkim.GoodRSA), hint: "verifiers take up to 2048 bits for certain (RFC 8301, section 3.2)"}
	}
	k, err := dkim.Generate(a, bits, randomSource())
	if err != nil {
		return err
	}
	b, err := k.PEM()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &exitError{code: exitNo, text: fmt.Sprintf("dkim keygen: %s is there already", args[0]), hint: "a key that is in use must not be written over: choose another name"}
	}
	if err != nil {
		return &exitError{code: exitUsage, text: "dkim keygen: " + err.Error()}
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "made %s, a key for %s; name it in a dkim block, and publish what postern dkim record prints before mail is signed with it\n", args[0], a)
	return nil
}

// dkimKeys gives the keys of a configuration, or those named.
func dkimKeys(cfg *config.Config, names []string) (out []*config.DKIM, err error) {
	var known []string
	for i := range cfg.Signing.Keys {
		k := &cfg.Signing.Keys[i]
		known = append(known, k.Name)
		if len(names) > 0 && !slices.Contains(names, k.Name) {
			continue
		}
		if k.Key == nil {
			return nil, &exitError{code: exitUsage, text: fmt.Sprintf("%s: dkim %q: %s is not there", k.Pos, k.Name, k.File), hint: "postern dkim keygen " + k.File}
		}
		out = append(out, k)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, &exitError{code: exitUsage, text: fmt.Sprintf("unknown dkim key %q", n), hint: "there are: " + strings.Join(known, ", ")}
		}
	}
	if len(out) == 0 {
		return nil, &exitError{code: exitNo, text: "the configuration has no dkim key", hint: `dkim "NAME" { domain = ... selector = ... key_file = ... } (one attribute a line)`}
	}
	return out, nil
}

// dkimRecord is one record, for machines.
type dkimRecord struct {
	Key   string `json:"key"`
	Name  string `json:"name"`
	Text  string `json:"text"`
	State string `json:"state,omitempty"` // of check: published, not published, unknown
	Why   string `json:"why,omitempty"`
}

func recordOf(k *config.DKIM) (dkimRecord, error) {
	text, err := k.Key.Record()
	return dkimRecord{Key: k.Name, Name: dkim.RecordName(k.Signer.Selector, k.Signer.Domain), Text: text}, err
}

func dkimRecords(e *env, keys []*config.DKIM, asJSON bool) error {
	for _, k := range keys {
		r, err := recordOf(k)
		if err != nil {
			return err
		}
		if asJSON {
			if err := printJSON(e, r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(e.stdout, "%s. IN TXT (%s)\n", r.Name, characterStrings(r.Text))
	}
	return nil
}

// characterStrings cuts a text into the strings of which a TXT record is made: 255
// octets each (RFC 1035, section 3.3).
func characterStrings(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(len(s), 255)
		fmt.Fprintf(&b, " \"%s\"", s[:n])
		s = s[n:]
	}
	return b.String() + " "
}

// dkimCheck asks the DNS for every record.
func dkimCheck(ctx context.Context, e *env, cfg *config.Config, keys []*config.DKIM, asJSON bool) error {
	resolver, err := egress.NewResolver(cfg.Node.Resolver, time.Now)
	if err != nil {
		return &exitError{code: exitUsage, text: err.Error()}
	}
	code := exitOK
	w := table(e)
	if !asJSON {
		fmt.Fprintln(w, "KEY\tRECORD\tSTATE")
	}
	for _, k := range keys {
		r, err := recordOf(k)
		if err != nil {
			return err
		}
		r.State = "published"
		if err := k.Key.Published(ctx, resolver, r.Name); err != nil {
			r.State, r.Why = dkimState(err)
			if r.State == "unknown" {
				code = exitUsage
			} else {
				code = max(code, exitNo)
			}
		}
		if asJSON {
			if err := printJSON(e, r); err != nil {
				return err
			}
			continue
		}
		state := r.State
		if r.Why != "" {
			state += ": " + r.Why
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Key, r.Name, state)
	}
	if err := w.Flush(); err != nil || code == exitOK {
		return err
	}
	return &exitError{code: code}
}

// dkimState tells a record that is not right from a DNS that does not answer.
func dkimState(err error) (state, why string) {
	switch {
	case errors.Is(err, dkim.ErrNotPublished):
		return "not published", strings.TrimPrefix(err.Error(), dkim.ErrNotPublished.Error()+": ")
	case isNoName(err):
		return "not published", "there is no such name"
	}
	return "unknown", err.Error()
}

// isNoName reports that the DNS has answered that there is no such name.
func isNoName(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}
