package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/internal/bench"
)

// benchStream is a run of `forebay bench stream`.
type benchStream struct {
	c       *cli
	store   benchStore
	brokers []string
	of      app.StreamBench
}

type streamDocument struct {
	Machine benchMachine `json:"machine"`
	Store   string       `json:"store"`
	Kafka   string       `json:"kafka"`
	app.StreamFigures
	Ratio float64 `json:"ratio"` // Streamed to Decoded
}

func (c *cli) benchStreamCommand() *cobra.Command {
	b := &benchStream{c: c}
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "From Kafka through windows to the online store",
		Long: `Produces synthetic events, and measures first how fast they are read and decoded, and nothing else
done with them, and then the whole stream: windows of 1h, 24h, 7d and 30d with count, sum, mean and max into the online
store, and the rows into the log. Then events come at a fixed rate, and the time until each is served is measured.`,
		Args: args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if b.of.Events < 1 || b.of.Entities < 1 || b.of.Rate < 1 || b.of.Duration <= 0 {
			return usage(cmd, "--events, --entities, --rate and --duration must be positive")
		}
		return b.run(cmd.Context())
	}
	b.store.flags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&b.brokers, "brokers", nil, "Kafka to use, host:port (default: the in-process one, which takes time of its own)")
	f.IntVar(&b.of.Events, "events", 300_000, "events to stream as fast as they come")
	f.IntVar(&b.of.Entities, "entities", 20_000, "entities that they are of")
	f.IntVar(&b.of.Rate, "rate", 5000, "events a second, for the delay")
	f.DurationVar(&b.of.Duration, "duration", 10*time.Second, "how long to send at that rate")
	return cmd
}

func (b *benchStream) run(ctx context.Context) (err error) {
	doc := streamDocument{Machine: thisMachine(), Store: "embedded", Kafka: "given"}
	if len(b.brokers) == 0 {
		b.brokers, doc.Kafka = []string{"embedded"}, "in process"
	}
	const width = 1
	r, err := b.c.synthesize(ctx, b.store, bench.Synthetic{Widths: []int{width}, Entities: 1, Windows: true, Brokers: b.brokers})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if r.redis != nil {
		doc.Store = "redis"
	}
	b.of.Source, b.of.Days = bench.Source(width), 30
	if err := r.with(ctx, b.c, func(a *app.App) error {
		figures, err := a.BenchStream(ctx, b.of)
		if err == nil {
			doc.StreamFigures = *figures
		}
		return err
	}); err != nil {
		return err
	}
	doc.Ratio = doc.Streamed / doc.Decoded
	if b.c.json {
		return b.c.document(doc)
	}
	t := newTable("EVENTS", ">DECODED/S", ">STREAMED/S", ">OF IT", ">AT A SECOND", ">SERVED P50", ">P99", ">MAX")
	t.add(count(int64(doc.Events)), int64(doc.Decoded), int64(doc.Streamed), fmt.Sprintf("%.0f %%", 100*doc.Ratio), doc.Rate, span(seconds(doc.P50)), span(seconds(doc.P99)), span(seconds(doc.Max)))
	b.c.print(t)
	return nil
}
