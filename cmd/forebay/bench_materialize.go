package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/internal/bench"
)

// setsInAPipeline is how many SETs go to Redis together in the raw measurement.
const setsInAPipeline = 128

// benchMaterialize is a run of `forebay bench materialize`.
type benchMaterialize struct {
	c           *cli
	store       benchStore
	entities    int
	features    int
	connections int
	duration    time.Duration
}

type materializeDocument struct {
	Machine     benchMachine     `json:"machine"`
	Store       string           `json:"store"`
	Features    int              `json:"features"`
	First       app.Materialized `json:"first"`        // from the log: the view's table is derived as well
	Written     app.Materialized `json:"written"`      // from the derived table, into an empty store; with the embedded store First
	PerSecond   float64          `json:"per_second"`   // records of Written
	RecordBytes float64          `json:"record_bytes"` // of one, in Redis' own count of its value; 0 with the embedded store
	// Raw are SETs of as many bytes, pipelined, by this program; RedisBenchmark by
	// redis-benchmark; both in records a second.
	Raw            float64 `json:"raw,omitempty"`
	RedisBenchmark float64 `json:"redis_benchmark,omitempty"`
	Ratio          float64 `json:"ratio"` // PerSecond to RedisBenchmark, or Raw where there is none
}

func (c *cli) benchMaterializeCommand() *cobra.Command {
	b := &benchMaterialize{c: c}
	cmd := &cobra.Command{
		Use:   "materialize",
		Short: "From the offline to the online store",
		Long: `Materializes synthetic entities into an empty online store: first from the log, for which the
view's table is derived, and then from that table, as every later time. Then it writes as
many bytes to Redis with plain pipelined SETs.`,
		Args: args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if b.entities < 1 || b.features < 1 || b.connections < 1 || b.duration <= 0 {
			return usage(cmd, "--entities, --features, --connections and --duration must be positive")
		}
		return b.run(cmd.Context())
	}
	b.store.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&b.entities, "entities", 100000, "entities to write")
	f.IntVar(&b.features, "features", 50, "features of each")
	f.IntVar(&b.connections, "connections", 4, "connections of the raw measurement")
	f.DurationVar(&b.duration, "duration", 3*time.Second, "of the raw measurement")
	return cmd
}

func (b *benchMaterialize) run(ctx context.Context) (err error) {
	widths := []int{b.features}
	r, err := b.c.synthesize(ctx, b.store, bench.Synthetic{Widths: widths, Entities: b.entities})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	done, err := r.fill(ctx, b.c, widths)
	if err != nil {
		return err
	}
	doc := materializeDocument{Machine: thisMachine(), Store: "embedded", Features: b.features, First: done[0], Written: done[0]}
	if r.redis != nil {
		if err := r.redis.Remove(ctx, app.RedisProject(r.project)); err != nil {
			return err
		}
		if err := r.with(ctx, b.c, func(a *app.App) error {
			done, err = a.Materialize(ctx, app.MaterializeOptions{})
			return err
		}); err != nil {
			return err
		}
		doc.Written = done[0]
	}
	doc.PerSecond = float64(doc.Written.Applied) / doc.Written.Seconds
	if r.redis != nil {
		doc.Store = "redis"
		if err := b.raw(ctx, r, &doc); err != nil {
			return err
		}
	}
	if b.c.json {
		return b.c.document(doc)
	}
	t := newTable("RECORDS", ">FEATURES", ">BYTES", ">FROM THE LOG", ">TIME", ">RECORDS/S", ">SET/S", ">OF IT")
	set, ratio := max(doc.Raw, 0), ""
	if doc.RedisBenchmark > 0 {
		set = doc.RedisBenchmark
	}
	if doc.Ratio > 0 {
		ratio = fmt.Sprintf("%.0f %%", 100*doc.Ratio)
	}
	t.add(count(doc.Written.Applied), b.features, int(doc.RecordBytes), span(seconds(doc.First.Seconds)), span(seconds(doc.Written.Seconds)), int64(doc.PerSecond), int64(set), ratio)
	b.c.print(t)
	return nil
}

// raw measures plain SETs of records of the same size.
func (b *benchMaterialize) raw(ctx context.Context, r *benchRepository, doc *materializeDocument) error {
	keys, err := r.redis.Keys(ctx, app.RedisRecords(r.project, bench.View(b.features), doc.Written.Generation), 1)
	if err != nil || len(keys) == 0 {
		return errors.Join(errors.New("bench: nothing was written"), err)
	}
	get, err := bench.DialRedis(ctx, *r.redis, [][]byte{bench.Command("GET", keys[0])}, 1)
	if err != nil {
		return err
	}
	size, err := get.Do(0)
	if err := errors.Join(err, get.Close()); err != nil {
		return err
	}
	doc.RecordBytes = float64(size)
	value := strings.Repeat("x", size)
	commands := make([][]byte, max(1, b.entities/setsInAPipeline))
	for i := range commands {
		for j := range setsInAPipeline {
			commands[i] = append(commands[i], bench.Command("SET", fmt.Sprintf("%s{raw}%012d", r.project, i*setsInAPipeline+j), value)...)
		}
	}
	clients, closeAll, err := connect(b.connections, func() (bench.Client, error) {
		return bench.DialRedis(ctx, *r.redis, commands, setsInAPipeline)
	})
	if err != nil {
		return err
	}
	f, err := bench.Run(ctx, bench.Load{Clients: clients, Duration: b.duration})
	if err := errors.Join(err, closeAll()); err != nil {
		return err
	}
	doc.Raw = f.PerSecond * setsInAPipeline
	doc.RedisBenchmark, err = r.redis.Benchmark(ctx, "-c", strconv.Itoa(b.connections), "-P", strconv.Itoa(setsInAPipeline),
		"-n", strconv.Itoa(max(1000, int(doc.Raw*b.duration.Seconds()))), "-r", strconv.Itoa(b.entities), "SET", r.project+"{raw}__rand_int__", value)
	if doc.Ratio = doc.PerSecond / doc.Raw; doc.RedisBenchmark > 0 {
		doc.Ratio = doc.PerSecond / doc.RedisBenchmark
	}
	return err
}
