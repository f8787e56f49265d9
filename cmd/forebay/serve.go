package main

import (
	"context"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

// defaultListen is where serve and dev listen unless told otherwise.
const defaultListen = "127.0.0.1:6566"

func (c *cli) serveCommand() *cobra.Command {
	var o app.ServeOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve lookups, pushes and datasets over HTTP",
		Long: `Serves the HTTP API until it is told to stop (Ctrl-C or SIGTERM), then lets the requests
in flight end. A newly applied revision is taken up without a restart. While it holds
embedded stores, other commands work through it.`,
		Args: args(0, 0),
	}
	var at *int64
	cmd.RunE = c.withHead(slog.LevelInfo, func(ctx context.Context, a *app.App, _ []string) error {
		a.SetClock(at)
		o.FlightReady = func(location string) {
			if !c.json {
				c.printf("Serving datasets over Arrow Flight at %s\n", location)
			}
		}
		o.Ready = func(url string) {
			if c.json {
				_ = c.document(struct {
					URL string `json:"url"`
				}{url})
				return
			}
			c.printf("Serving %s  (Ctrl-C stops)\n", url)
		}
		// A server keeps little and makes garbage fast: without this its heap of a few MB
		// would be collected hundreds of times a second. Nobody writes to these pages, so that they take no memory.
		heapFloor := make([]byte, 64<<20)
		defer runtime.KeepAlive(heapFloor)
		return a.Serve(ctx, o)
	})
	cmd.Flags().StringVar(&o.Listen, "listen", defaultListen, "address to listen on; port 0 picks a free one")
	cmd.Flags().StringVar(&o.FlightListen, "flight-listen", "", "address to serve datasets on over Arrow Flight, such as 127.0.0.1:8815; none by default")
	cmd.Flags().Var(instant{&at}, "at", "let the server's clock stand at this instant, to look at historical data")
	return cmd
}
