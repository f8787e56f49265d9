package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
)

func (c *cli) maintainCommand() *cobra.Command {
	o := app.MaintainOptions{Retain: app.DefaultRetain}
	cmd := &cobra.Command{
		Use:   "maintain",
		Short: "Compact the offline tables, expire states that no dataset needs",
		Long: `Puts small files of logs and derived tables together, expires states of the tables that were
superseded long enough ago and that no named or pinned dataset needs, removes files that
nothing names, and the tables of dropped generations. Lookups, joins and datasets give what
they gave. It may run beside everything else, and may be stopped at any time.`,
		Args: args(0, 0),
	}
	cmd.RunE = c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
		if o.Retain < offline.MinRetain {
			return usage(cmd, "--retain %s is less than 10m: others may be in the middle of reading", (*duration)(&o.Retain))
		}
		if !c.json && terminal(c.stderr) {
			o.Progress = func(table string) { fmt.Fprintf(c.stderr, "%s\n", table) }
		}
		start := time.Now()
		done, err := a.Maintain(ctx, o)
		if err != nil {
			return err
		}
		if c.json {
			return c.document(done)
		}
		t := newTable("TABLE", ">FILES MERGED", ">INTO", ">STATES EXPIRED", ">FILES REMOVED", ">FREED", ">FILES", ">BYTES", "NOTE")
		for _, d := range done.Tables {
			note := ""
			switch {
			case d.Dropped:
				note = "dropped"
			case d.KeptFor != "":
				note = "kept for " + d.KeptFor
			}
			t.add(d.Table, d.Merged, d.Into, d.Snapshots, d.Removed, size(d.Freed), d.Files, size(d.Bytes), note)
		}
		c.print(t)
		if o.DryRun {
			c.printf("Dry run: nothing was changed.\n")
			return nil
		}
		c.printf("Done in %s.\n", span(time.Since(start)))
		return nil
	})
	cmd.Flags().Var((*duration)(&o.Retain), "retain", "how long a superseded state is kept, and a file that nothing names; at least 10m")
	dryRunFlag(cmd, &o.DryRun, "say what would be done, and do nothing")
	return cmd
}

// duration is a flag that takes a length of time as forebay.yaml has it: 90s, 15m, 24h, 7d, 4w.
type duration time.Duration

var _ pflag.Value = (*duration)(nil)

// Set implements pflag.Value.
func (d *duration) Set(text string) error {
	parsed, err := feature.ParseDuration(text)
	if err != nil {
		return err
	}
	if parsed == feature.Lifetime {
		return errors.New("it must have an end")
	}
	*d = duration(time.Duration(parsed) * time.Microsecond)
	return nil
}

// String implements pflag.Value.
func (d *duration) String() string {
	return feature.Duration(time.Duration(*d) / time.Microsecond).String()
}

// Type implements pflag.Value.
func (d *duration) Type() string { return "duration" }
