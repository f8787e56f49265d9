package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) streamCommand() *cobra.Command {
	var o app.StreamOptions
	cmd := &cobra.Command{
		Use:   "stream [VIEW…]",
		Short: "Read Kafka into the online and the offline store",
		Long: `Reads the Kafka topics of the sources that the views named, or all views, are computed
from. Events go to the source's log and to the online store; those that cannot be decoded
go to a dead-letter topic with the reason. Ctrl-C or SIGTERM finishes what was read and
stops; --until-caught-up stops when nothing is left to read.`,
		Args: args(0, -1),
	}
	cmd.RunE = c.withHead(slog.LevelInfo, func(ctx context.Context, a *app.App, args []string) error {
		o.Views = args
		p := c.startProgress("stream", "events")
		o.Progress = p.set
		done, err := a.Stream(ctx, o)
		p.stop()
		if err != nil {
			return err
		}
		if c.json {
			return c.document(done)
		}
		t := newTable("SOURCE", "TOPIC", ">EVENTS", ">DEAD LETTERS", ">LAG")
		for _, s := range done.Sources {
			var dead, lag int64
			for _, n := range s.DeadLetters {
				dead += n
			}
			for _, p := range s.Partitions {
				lag += p.Lag
			}
			t.add(s.Source, s.Topic, s.Rows, dead, lag)
		}
		c.print(t)
		return nil
	})
	cmd.Flags().BoolVar(&o.UntilCaughtUp, "until-caught-up", false, "stop when everything that the topics hold now is read")
	dryRunFlag(cmd, &o.DryRun, "say which topics would be read and how far they are ahead, and read nothing")
	return cmd
}
