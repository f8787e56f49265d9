package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) verifyCommand() *cobra.Command {
	var o app.VerifyOptions
	var at *int64
	cmd := &cobra.Command{
		Use:   "verify --service S",
		Short: "Compare what is served with what the offline store has",
		Long: `Looks entities up online, chosen at random, and recomputes their values from the offline store,
each at the instant it was served for. Prints each entity whose values differ, and why; then the
exit code is 1. An entity whose newest events are not in the log yet is counted, and not compared.`,
		Example: "  forebay verify --service delay_model --sample 5000",
		Args:    args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, rest []string) error {
		if o.Service == "" {
			return usage(cmd, "%s wants --service", cmd.CommandPath())
		}
		if o.Sample < 1 {
			return usage(cmd, "--sample must be 1 or more")
		}
		return c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			a.SetClock(at)
			p := c.startProgress("verify", "views")
			o.Progress = p.set
			done, err := a.Verify(ctx, o)
			p.stop()
			if err != nil {
				return err
			}
			return c.verified(done)
		})(cmd, rest)
	}
	cmd.Flags().StringVar(&o.Service, "service", "", "feature service whose views are compared")
	cmd.Flags().IntVar(&o.Sample, "sample", app.DefaultSample, "number of entities to look up, of each view")
	cmd.Flags().Var(instant{&at}, "at", "look up as if it were this instant, for historical data")
	return cmd
}

// shownMismatches is how many are printed; --json has them all.
const shownMismatches = 20

// verified prints what was compared. A mismatch is a failure.
func (c *cli) verified(v *app.Verified) error {
	if c.json {
		if err := c.document(v); err != nil {
			return err
		}
	}
	t := newTable("VIEW", ">ENTITIES", ">VALUES", ">MISMATCHED", ">AHEAD OF THE LOG")
	for _, view := range v.Views {
		t.add(view.View, view.Entities, view.Values, view.Mismatched, view.Ahead)
	}
	c.print(t)
	n := len(v.Mismatches)
	if n == 0 {
		c.printf("\n%s served at %s: no difference.\n", plural(int64(v.Values()), "value"), v.Instant)
		return nil
	}
	c.printMismatches(v.Mismatches)
	return errReported
}

func (c *cli) printMismatches(all []app.Mismatch) {
	for _, m := range all[:min(len(all), shownMismatches)] {
		entity := ""
		if m.Entity != "" {
			entity = " of " + m.Entity
		}
		c.printf("\n%s%s at %s: %s: %s\n", m.View, entity, m.Instant, c.paint(c.stdout, red, string(m.Reason)), m.Message)
		for _, f := range m.Features {
			c.printf("  %s: %s online, %s offline\n", f.Feature, f.Online, f.Offline)
		}
	}
	more := ""
	if n := len(all) - shownMismatches; n > 0 {
		more = fmt.Sprintf("; %d more are not shown, --json has them all", n)
	}
	c.printf("\n%s whose values differ%s\n", plural(int64(len(all)), "entity"), more)
}
