package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/report"
)

// exported is one report as -format json tells it on.
type exported struct {
	File    string          `json:"file"`
	Report  *message.Report `json:"report"`
	Verdict *report.Verdict `json:"verdict,omitempty"`
}

// exporting is what report export is told.
type exporting struct{ format, to, by, config *string }

// run writes saved reports in another form, for who wants them so.
func (x *exporting) run(ctx context.Context, e *env, names []string) error {
	if len(names) == 0 || (*x.format != "arf" && *x.format != "xarf" && *x.format != "json") {
		return &exitError{code: exitUsage, text: "report export needs -format arf, xarf or json, and files of saved mail", hint: "postern help report"}
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			return &exitError{code: exitUsage, text: err.Error()}
		}
		r, err := message.ParseReport(raw)
		if err != nil {
			return &exitError{code: exitUsage, text: name + ": " + err.Error()}
		}
		if err := x.one(ctx, e, name, raw, r); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporting) one(ctx context.Context, e *env, name string, raw []byte, r *message.Report) error {
	switch *x.format {
	case "arf":
		_, err := e.stdout.Write(inbox.NoticeOf(r).Mail(*x.to).Raw)
		return err
	case "xarf":
		if r.Format == message.FormatDSN {
			return &exitError{code: exitUsage, text: name + " is a bounce: XARF is for complaints", hint: "-format arf writes bounces as RFC 3464"}
		}
		b, err := inbox.NoticeOf(r).XARF(uuidOf(r.Identity()), *x.by)
		if err == nil {
			_, err = e.stdout.Write(append(b, '\n'))
		}
		return err
	}
	out := exported{File: name, Report: r}
	if *x.config != "" {
		c, err := node(e, *x.config)
		if err != nil {
			return err
		}
		out.Verdict = &report.Verdict{}
		if err := remote(c.Post(ctx, "/judge", app.JudgeRequest{Raw: raw}, out.Verdict)); err != nil {
			return err
		}
	}
	return printJSON(e, out)
}

// uuidOf makes a name in the form of a UUID (RFC 9562, version 8) of a report's identity:
// the same report has the same.
func uuidOf(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	s := hex.EncodeToString(sum[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
