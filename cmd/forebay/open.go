package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

// open opens the repository and environment that the global flags name. level
// is the least level of log lines to show. The caller closes it.
func (c *cli) open(cmd *cobra.Command, level slog.Level) (*app.App, error) {
	return app.Open(cmd.Context(), app.Options{
		Dir:         c.dir,
		Environment: c.environment,
		Command:     cmd.Name(),
		Log:         c.logger(level),
	})
}

// with makes a command's RunE of a function that works on an opened App.
func (c *cli) with(level slog.Level, run func(ctx context.Context, a *app.App, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		a, err := c.open(cmd, level)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Close()) }()
		return run(cmd.Context(), a, args)
	}
}

// withHead is with for commands that work by the head revision, not by the
// YAML: it says so where the two differ.
func (c *cli) withHead(level slog.Level, run func(ctx context.Context, a *app.App, args []string) error) func(*cobra.Command, []string) error {
	return c.with(level, func(ctx context.Context, a *app.App, args []string) error {
		head, err := a.Head(ctx)
		if err != nil {
			return err
		}
		if a.Drifted(ctx, head) {
			c.note("the YAML differs from the applied revision %d, which is what counts here; `forebay plan` shows how", head.Number)
		}
		return run(ctx, a, args)
	})
}

// dryRunFlag adds --dry-run.
func dryRunFlag(cmd *cobra.Command, to *bool, usage string) {
	cmd.Flags().BoolVar(to, "dry-run", false, usage)
}
