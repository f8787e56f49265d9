package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) pushCommand() *cobra.Command {
	var o app.PushOptions
	cmd := &cobra.Command{
		Use:   "push SOURCE FILE",
		Short: "Write rows straight to the online and the offline store",
		Long: `Appends the rows of a Parquet, CSV or NDJSON file to the source's log and writes the
features computed from them to the online store at once, without waiting for materialize.`,
		Args: args(2, 2),
	}
	cmd.RunE = c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		o.Source, o.File = args[0], args[1]
		p := c.startProgress("push "+o.Source, "rows")
		o.Progress = p.set
		done, err := a.Push(ctx, o)
		p.stop()
		if err != nil {
			return err
		}
		if c.json {
			return c.document(done)
		}
		if o.DryRun {
			c.printf("Would push %s to %s.\n", plural(done.Rows, "row"), o.Source)
			return nil
		}
		c.printf("Pushed %s to the log of %s (%s).\n", plural(done.Rows, "row"), o.Source, span(p.elapsed()))
		t := newTable("VIEW", ">GENERATION", ">WRITTEN", ">STALE")
		for _, v := range done.Views {
			t.add(v.View, v.Generation, v.Applied, v.Stale)
		}
		c.print(t)
		for _, v := range done.Views {
			if v.Later {
				_, _ = fmt.Fprintf(c.stderr, "note: the windows of %s have the rows when they are built again: forebay materialize %s\n", v.View, v.View)
			}
		}
		return nil
	})
	dryRunFlag(cmd, &o.DryRun, "read and check the rows, and write nothing")
	return cmd
}
