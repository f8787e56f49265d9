package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) devCommand() *cobra.Command {
	var o app.DevOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process, for development",
		Long: `Starts the in-process Kafka on a port, streams from it, serves HTTP, and applies the YAML
again whenever a file of it changes; mistakes in it are shown and the last good revision
stays. For development only: the in-process Kafka is no Kafka to keep events in.`,
		Args: args(0, 0),
	}
	cmd.RunE = c.with(slog.LevelInfo, func(ctx context.Context, a *app.App, _ []string) error {
		o.Ready = func(url, broker string) {
			if c.json {
				_ = c.document(struct {
					URL   string `json:"url"`
					Kafka string `json:"kafka,omitempty"`
				}{url, broker})
				return
			}
			c.printf("Serving %s\n", url)
			if broker != "" {
				c.printf("Kafka   %s\n", broker)
			}
			c.printf("Watching the YAML; Ctrl-C stops.\n")
		}
		o.Applied = c.devApplied
		return a.Dev(ctx, o)
	})
	cmd.Flags().StringVar(&o.Listen, "listen", defaultListen, "address to listen on; port 0 picks a free one")
	return cmd
}
