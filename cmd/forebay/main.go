// Command forebay is the feature store: declare features in YAML, ingest their
// history, keep the newest values online, and join the past for training.
//
// The commands are described in docs/cli.md. Each has a file of its own here;
// they print and parse, and leave the work to package internal/app.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal cancels the context, so that commands end in order; from
	// then on the default action is back, and a second one kills.
	context.AfterFunc(ctx, stop)
	c := &cli{
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		env:    os.Getenv,
	}
	os.Exit(c.run(ctx, os.Args[1:]))
}
