package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

// tested is what `forebay test` prints with --json.
type tested struct {
	Passed  int                `json:"passed"`
	Failed  int                `json:"failed"`
	Scripts []app.TestedScript `json:"scripts"`
}

func (c *cli) testCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test [FILE…]",
		Short: "Run the scripts of tests/ on the features as the YAML has them",
		Long: `Runs scripts that say which events happen and which values are then expected: those given,
those in folders given, else tests/*.pit. Each runs twice on stores of its own, which are
thrown away: once with lookups online, once with point-in-time joins. Nothing of the
environment is touched, and nothing needs to have been applied.`,
		Example: "  forebay test\n  forebay test tests/late.pit",
		Args:    args(0, -1),
		RunE: c.with(slog.LevelError, func(ctx context.Context, a *app.App, files []string) error {
			start := time.Now()
			done, err := a.Test(ctx, app.TestOptions{Files: files})
			if err != nil {
				return err
			}
			return c.tested(done, time.Since(start))
		}),
	}
}

// tested prints what became of scripts. One that failed is a failure.
func (c *cli) tested(done []app.TestedScript, took time.Duration) error {
	t := tested{Scripts: done}
	checked := 0
	for i := range done {
		checked += done[i].Checked
		if done[i].OK() {
			t.Passed++
		} else {
			t.Failed++
		}
	}
	if c.json {
		if err := c.document(t); err != nil {
			return err
		}
	}
	for i := range done {
		c.testedScript(&done[i])
	}
	c.printf("%s, %d failed: %s in %s\n", plural(int64(len(done)), "script"), t.Failed, plural(int64(checked), "expectation"), span(took))
	if t.Failed > 0 {
		return errReported
	}
	return nil
}

func (c *cli) testedScript(s *app.TestedScript) {
	if s.OK() {
		c.printf("%s    %s  %s\n", c.paint(c.stdout, green, "ok"), s.File, c.paint(c.stdout, faint, plural(int64(s.Checked), "expectation")))
		return
	}
	c.printf("%s  %s\n", c.paint(c.stdout, red, "FAIL"), s.File)
	for _, m := range s.Mistakes {
		c.printf("  %s\n", m)
	}
	for _, f := range s.Failures {
		c.printf("  %s: %s (%s)\n    expected %s\n    got      %s\n", f.Position, f.What, strings.Join(f.Engines, ", "), f.Expected, f.Got)
	}
	for _, e := range s.Errors {
		c.printf("  %s\n", strings.ReplaceAll(e, "\n", "\n    "))
	}
}
