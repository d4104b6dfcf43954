package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/verify"
)

// grace is how long a stopping node waits for transactions under way.
const grace = 30 * time.Second

// logger writes structured logs as the configuration asks.
func logger(w io.Writer, n *config.Node) *slog.Logger {
	level := slog.LevelInfo
	_ = level.UnmarshalText([]byte(n.LogLevel)) // checked by config
	o := &slog.HandlerOptions{Level: level}
	if n.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func runServe(ctx context.Context, e *env, args []string) error {
	defer collector(ctx)()
	f := flags("serve")
	budget := f.Duration("budget", app.DefaultBudget, "the `TIME` that reading and proving may take, at each reload too (0: no limit)")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	late, err := within(*budget)
	if err != nil {
		return err
	}
	file, err := oneFile("serve", rest)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(e, file, true, late)
	if err != nil {
		return err
	}
	log := logger(e.stderr, &cfg.Node)
	a, err := app.New(ctx, app.Options{Path: file, Config: cfg, Log: log, By: operator(), Budget: *budget, Late: late})
	var refused *app.NotClosedError
	if errors.As(err, &refused) && refused.Outcome.Status == verify.Unknown {
		return &exitError{code: exitUsage, text: err.Error()}
	}
	if err != nil {
		return &exitError{code: exitNo, text: err.Error()}
	}
	if err := a.Start(ctx); err != nil {
		hint := ""
		if errors.Is(err, os.ErrPermission) {
			hint = "ports below 1024 need root or CAP_NET_BIND_SERVICE"
		}
		return &exitError{code: exitNo, text: err.Error(), hint: hint}
	}
	fmt.Fprintf(e.stdout, "ready: policy %s, %s\n", cfg.Version, strings.Join(a.Bound(), ", "))
	failed := untilStopped(ctx, a, log)
	stop, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := errors.Join(failed, a.Stop(stop)); err != nil {
		return &exitError{code: exitNo, text: err.Error()}
	}
	return nil
}

// untilStopped waits for a signal or a failure; SIGHUP reloads.
func untilStopped(ctx context.Context, a *app.App, log *slog.Logger) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			log.Info("stopping")
			return nil
		case err := <-a.Failed():
			return err
		case <-hup:
			if _, err := a.Reload(ctx, app.ReloadRequest{By: "SIGHUP"}); err != nil {
				log.Error("reload", "err", err)
			}
		}
	}
}

func runVersion(_ context.Context, e *env, args []string) error {
	rest, err := parse(flags("version"), args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("version takes no arguments")
	}
	fmt.Fprintf(e.stdout, "postern %s %s %s/%s\n", app.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
