package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) onlineCommand() *cobra.Command {
	return subcommands(&cobra.Command{
		Use:   "online",
		Short: "Look after the online store",
	}, c.onlineGCCommand())
}

func (c *cli) onlineGCCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Drop what no live generation needs from the online store",
		Long: `Drops the records of generations that are neither live nor of the newest revision nor named
by a service, in small steps that leave the store its time for lookups. Those are gone too
that were kept for a rollback; without this command they go by themselves when the
environment's generations.keep is over.`,
		Args: args(0, 0),
	}
	cmd.RunE = c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
		start := time.Now()
		done, err := a.OnlineGC(ctx, dryRun, func(g app.CollectedGeneration) {
			if !c.json {
				fmt.Fprintf(c.stderr, "dropping %s@%d: %s\n", g.View, g.Generation, plural(g.Records, "record"))
			}
		})
		if err != nil {
			return err
		}
		if c.json {
			return c.document(done)
		}
		if len(done.Generations) == 0 {
			c.printf("Nothing to drop.\n")
			return nil
		}
		t := newTable("VIEW", ">GENERATION", ">RECORDS", ">BYTES", "LIVE UNTIL")
		for _, g := range done.Generations {
			t.add(g.View, g.Generation, g.Records, size(g.Bytes), g.Ended)
		}
		c.print(t)
		if dryRun {
			c.printf("Dry run: nothing was dropped.\n")
			return nil
		}
		c.printf("Dropped in %s.\n", span(time.Since(start)))
		return nil
	})
	dryRunFlag(cmd, &dryRun, "say what would be dropped, and drop nothing")
	return cmd
}
