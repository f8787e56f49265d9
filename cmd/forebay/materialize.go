package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) materializeCommand() *cobra.Command {
	var o app.MaterializeOptions
	cmd := &cobra.Command{
		Use:   "materialize [VIEW…]",
		Short: "Bring the online store up to date from the offline store",
		Long: `Writes the newest row of each entity from the offline store to the online store,
for the views named or for all. It goes on where it ended the last time; rows that are
not newer than what is online change nothing.`,
		Args: args(0, -1),
	}
	cmd.RunE = c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		o.Views = args
		return c.materialize(ctx, a, o)
	})
	cmd.Flags().Var(instant{&o.From}, "from", "only rows with an event time from this instant on (RFC 3339 or a date, UTC)")
	cmd.Flags().Var(instant{&o.To}, "to", "only rows with an event time up to this instant")
	cmd.Flags().BoolVar(&o.Overwrite, "overwrite", false, "replace what is online whatever its version, to correct it")
	dryRunFlag(cmd, &o.DryRun, "say what would be read, and write nothing")
	return cmd
}

func (c *cli) materialize(ctx context.Context, a *app.App, o app.MaterializeOptions) error {
	var p *progress
	o.Progress = func(view string, done, total int64) {
		if p == nil || p.label != view {
			if p != nil {
				p.stop()
			}
			p = c.startProgress(view, "rows")
		}
		p.set(done, total)
	}
	views, err := a.Materialize(ctx, o)
	if p != nil {
		p.stop()
	}
	if len(views) == 0 && err != nil {
		return err
	}
	t := newTable("VIEW", ">GENERATION", ">ROWS READ", ">WRITTEN", ">STALE", ">TIME", ">RATE")
	for _, v := range views {
		t.add(v.View, v.Generation, v.Rows, v.Applied, v.Stale, span(seconds(v.Seconds)), rate(v.Rows, seconds(v.Seconds)))
	}
	c.print(t)
	for _, v := range views {
		if v.BadRows > 0 {
			fmt.Fprintf(c.stderr, "%s: %s without a whole entity key left out\n", v.View, plural(v.BadRows, "row"))
		}
	}
	if err != nil || !c.json {
		return err
	}
	return c.document(struct {
		DryRun bool               `json:"dry_run,omitempty"`
		Views  []app.Materialized `json:"views"`
	}{o.DryRun, views})
}
