package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/internal/bench"
	"github.com/forebay/forebay/internal/config"
	"github.com/forebay/forebay/registry/selection"
)

// benchLookup is a run of `forebay bench lookup`.
type benchLookup struct {
	c           *cli
	store       benchStore
	asked       requested
	spine       string
	shapes      []string
	formats     []string
	entities    int
	connections int
	duration    time.Duration
	rounds      int
	rate        float64
	load        float64
	omit        []string
}

// lookupFormats are the types that an answer can be asked for in, by the names of --format.
var lookupFormats = map[string]string{
	"json":    "application/json",
	"arrow":   "application/vnd.apache.arrow.stream",
	"msgpack": "application/msgpack",
}

// lookupFigures is one line of the result.
type lookupFigures struct {
	Entities int    `json:"entities"`
	Features int    `json:"features"`
	Format   string `json:"format"`
	// Closed is how much was answered when each connection asked again at once.
	Closed bench.Figures `json:"closed"`
	// CPU is the server's processor time for one request under the closed load, in milliseconds; 0 where it is not known.
	CPU float64 `json:"server_cpu_ms"`
	// Open is what clients waited at a fixed rate.
	Open bench.Figures `json:"open"`
	// Raw is the same records read from Redis by this program, without anything on top; nil where there is no Redis.
	Raw *bench.Figures `json:"raw,omitempty"`
	// RedisBenchmark is the same by redis-benchmark, commands in a second, the median of the rounds; 0 where it is not installed. As
	// lookups do, it reads random records of as many as there are entities; of a repository's own records the same ones all the time.
	RedisBenchmark float64 `json:"redis_benchmark,omitempty"`
	// RedisSameKeys is one command of redis-benchmark over and over, whose records never leave the processor's cache; 0 where it is not known.
	RedisSameKeys float64 `json:"redis_benchmark_same_keys,omitempty"`
	// Rounds are the closed load and redis-benchmark (or Raw's commands, where that is not installed) in turn; none without Redis.
	Rounds []bench.Round `json:"rounds,omitempty"`
	// Ratio is the median over Rounds of the one to the other, RatioLeast and RatioMost the least and the greatest; 0 without Redis.
	Ratio      float64 `json:"ratio"`
	RatioLeast float64 `json:"ratio_least,omitempty"`
	RatioMost  float64 `json:"ratio_most,omitempty"`
}

type lookupDocument struct {
	Machine     benchMachine    `json:"machine"`
	Omitted     []string        `json:"omitted,omitempty"`
	Store       string          `json:"store"`
	Connections int             `json:"connections"`
	Figures     []lookupFigures `json:"figures"`
}

func (c *cli) benchLookupCommand() *cobra.Command {
	b := &benchLookup{c: c}
	cmd := &cobra.Command{
		Use:   "lookup",
		Short: "Lookups over HTTP",
		Long: `Starts a server as a process of its own and asks it for features over as many connections as told:
first each connection asks again as soon as it is answered, which shows how much can be
answered; then requests fall due at a fixed rate and each is timed from when it was due, which
shows what clients wait. The same records are read from Redis itself, a GET or MGET at
a time over as many connections, by redis-benchmark where it is installed: in turn with the first
load, a round each, so that both see the same machine. The part of Redis' rate that is reached is the
median of the rounds; the least and the greatest of them stand behind it. Both ask for random entities of as many;
what redis-benchmark reaches with the same keys all the time, which never leave the processor's cache, is
shown beside it (--entities 100 lets a lookup of 100 do so too).

With --service or --features it uses this repository, with the entities of --spine.`,
		Example: "  forebay bench lookup --shapes 1x50,100x50 --format json,arrow\n  forebay bench lookup --service delay_model --spine spine.parquet --shapes 1,100",
		Args:    args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := b.check(cmd); err != nil {
			return err
		}
		return b.run(cmd.Context())
	}
	b.store.flags(cmd)
	b.asked.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&b.spine, "spine", "", "file of the entities to ask for, with --service or --features")
	f.StringSliceVar(&b.shapes, "shapes", nil, "entities x features of a request, such as 1x50,100x50; of this repository only the entities: 1,100")
	f.StringSliceVar(&b.formats, "format", []string{"json"}, "of the answers: json, arrow, msgpack")
	f.IntVar(&b.entities, "entities", 10000, "entities there are")
	f.IntVar(&b.connections, "connections", 16, "connections")
	f.DurationVar(&b.duration, "duration", 5*time.Second, "of each measurement")
	f.IntVar(&b.rounds, "rounds", 7, "that each measurement is done in, in turn with that of Redis")
	f.Float64Var(&b.rate, "rate", 0, "requests that fall due in a second (default: --load of what was answered at most)")
	f.Float64Var(&b.load, "load", 0.5, "the fixed rate as a part of what was answered at most")
	f.StringSliceVar(&b.omit, "omit", nil, "leave out of the answers: statuses, event_timestamps")
	return cmd
}

func (b *benchLookup) own() bool { return b.asked.service != "" || len(b.asked.features) > 0 }

func (b *benchLookup) check(cmd *cobra.Command) error {
	for _, f := range b.formats {
		if lookupFormats[f] == "" {
			return usage(cmd, "--format %s: want json, arrow or msgpack", f)
		}
	}
	if b.entities < 1 || b.connections < 1 || b.rounds < 1 || b.duration <= 0 || b.rate < 0 || b.load <= 0 || b.load > 1 {
		return usage(cmd, "--entities, --connections, --rounds and --duration must be positive, --rate not negative, --load above 0 and at most 1")
	}
	if b.own() {
		if err := b.asked.check(cmd); err != nil {
			return err
		}
		if b.spine == "" || b.store != (benchStore{}) {
			return usage(cmd, "with --service or --features give --spine, and neither --redis nor --embedded: the environment says where the values are")
		}
		if len(b.shapes) == 0 {
			b.shapes = []string{"1", "100"}
		}
	} else if len(b.shapes) == 0 {
		b.shapes = []string{"1x50", "1x250", "100x50", "100x250"}
	}
	for _, shape := range b.shapes {
		if _, _, err := b.parseShape(shape); err != nil {
			return usage(cmd, "%v", err)
		}
	}
	return nil
}

// parseShape reads a shape: 100x50, or 100 for this repository's features.
func (b *benchLookup) parseShape(shape string) (entities, features int, err error) {
	left, right, both := strings.Cut(shape, "x")
	entities, err = strconv.Atoi(left)
	if err == nil && both {
		features, err = strconv.Atoi(right)
	}
	if err != nil || both == b.own() || entities < 1 || both && features < 1 {
		return 0, 0, fmt.Errorf("--shapes %s: want entities x features, such as 100x50; for this repository's features entities alone", shape)
	}
	return entities, features, nil
}

// lookupTarget is a server under load and how to ask it.
type lookupTarget struct {
	server  *benchServer
	redis   *bench.Redis                        // nil where there is none to compare with
	body    func(entities, features int) []byte // of a request of random entities
	key     func(features int) (pattern string) // of the records of the views read, as SCAN takes it
	header  []string                            // of every request
	project string
	width   int // features of a request, where the repository decides
	done    func() error
}

func (b *benchLookup) run(ctx context.Context) (err error) {
	var t *lookupTarget
	if b.own() {
		t, err = b.ownTarget(ctx)
	} else {
		t, err = b.syntheticTarget(ctx)
	}
	if err != nil {
		return err
	}
	defer func() {
		t.server.stop()
		err = errors.Join(err, t.done())
	}()
	doc := lookupDocument{Machine: thisMachine(), Omitted: b.omit, Store: "embedded", Connections: b.connections}
	if t.redis != nil {
		doc.Store = "redis"
	}
	for _, shape := range b.shapes {
		entities, features, _ := b.parseShape(shape) // check has
		var raw *rawLoad
		if t.redis != nil {
			if raw, err = b.raw(ctx, t, entities, features); err != nil {
				return err
			}
		}
		for _, format := range b.formats {
			f, err := b.measure(ctx, t, raw, entities, features, format)
			if err != nil {
				return errors.Join(err, raw.close())
			}
			doc.Figures = append(doc.Figures, f)
		}
		if err := raw.close(); err != nil {
			return err
		}
	}
	return b.print(doc)
}

func (b *benchLookup) syntheticTarget(ctx context.Context) (*lookupTarget, error) {
	var widths []int
	for _, shape := range b.shapes {
		if _, w, _ := b.parseShape(shape); !slices.Contains(widths, w) {
			widths = append(widths, w)
		}
	}
	r, err := b.c.synthesize(ctx, b.store, bench.Synthetic{Widths: widths, Entities: b.entities})
	if err != nil {
		return nil, err
	}
	if _, err = r.fill(ctx, b.c, widths); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	t := &lookupTarget{redis: r.redis, project: r.project, done: r.stop}
	t.body = func(entities, features int) []byte {
		body := fmt.Appendf(nil, `{"service":%q,"entities":[`, bench.Service(features))
		for i, e := range chosen(entities, b.entities) {
			if i > 0 {
				body = append(body, ',')
			}
			body = bench.Entity(body, e)
		}
		return append(body, ']', '}')
	}
	t.key = func(features int) string { return app.RedisRecords(r.project, bench.View(features), 1) }
	if t.server, err = b.c.startServer(ctx, "-C", r.dir); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return t, nil
}

func (b *benchLookup) ownTarget(ctx context.Context) (t *lookupTarget, err error) {
	t = &lookupTarget{done: func() error { return nil }}
	a, err := app.Open(ctx, app.Options{Dir: b.c.dir, Environment: b.c.environment, Command: "bench", Log: b.c.logger(slog.LevelWarn)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	found, width, err := a.Entities(ctx, selection.Request{Service: b.asked.service, Features: b.asked.features, FullNames: b.asked.fullNames}, b.spine, b.entities)
	if err != nil {
		return nil, err
	}
	t.width = width
	t.body = func(entities, _ int) []byte {
		body := []byte(`{"features":[`)
		if b.asked.service != "" {
			body = fmt.Appendf(body[:0], `{"service":%q,"entities":[`, b.asked.service)
		} else {
			for i, f := range b.asked.features {
				if i > 0 {
					body = append(body, ',')
				}
				body = strconv.AppendQuote(body, f)
			}
			body = append(body, `],"entities":[`...)
		}
		for i, e := range chosen(entities, len(found)) {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, found[e]...)
		}
		return append(body, ']', '}')
	}
	if keys := a.ServerSettings().APIKeys; len(keys) > 0 {
		t.header = []string{"X-Api-Key: " + string(keys[0])}
	}
	project := a.Project()
	t.key = func(int) string { return app.RedisRecords(project, "", 0) }
	if o := a.OnlineSettings(); o.Store == config.Redis && o.Mode == config.Single {
		secure, err := o.TLS.Config()
		if err != nil {
			return nil, err
		}
		t.redis = &bench.Redis{Addr: o.Addrs[0], Username: o.Username, Password: string(o.Password), DB: o.DB, TLS: secure}
	}
	args := []string{"-C", b.c.dir}
	if b.c.environment != "" {
		args = append(args, "-e", b.c.environment)
	}
	t.server, err = b.c.startServer(ctx, args...)
	return t, err
}

// chosen are n numbers below the limit at random; none is there twice, unless there are fewer than n.
func chosen(n, limit int) []int {
	numbers := rand.Perm(limit) //nolint:gosec // load
	for len(numbers) < n {
		numbers = append(numbers, numbers[:min(limit, n-len(numbers))]...)
	}
	return numbers[:n]
}

// requestsMade is how many different requests a run takes in turn.
const requestsMade = 500

func (b *benchLookup) measure(ctx context.Context, t *lookupTarget, raw *rawLoad, entities, features int, format string) (f lookupFigures, err error) {
	f = lookupFigures{Entities: entities, Features: max(features, t.width), Format: format}
	p := b.c.startProgress(fmt.Sprintf("%dx%d %s", f.Entities, f.Features, format), "s")
	defer p.stop()
	requests := make([]bench.Request, requestsMade)
	for i := range requests {
		requests[i] = bench.NewRequest(t.server.addr, "/v1/features", b.without(t.body(entities, features)), append(t.header[:len(t.header):len(t.header)], "Accept: "+lookupFormats[format])...)
	}
	if err := b.closed(ctx, t, raw, requests, &f); err != nil {
		return f, err
	}
	if f.Closed.Requests == f.Closed.Errors {
		return f, fmt.Errorf("bench: no request was answered: %s", f.Closed.FirstError)
	}
	clients, closeAll, err := connect(b.connections, func() (bench.Client, error) { return bench.DialHTTP(ctx, t.server.addr, requests) })
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	rate := b.rate
	if rate == 0 {
		rate = f.Closed.PerSecond * b.load
	}
	f.Open, err = bench.Run(ctx, bench.Load{Clients: clients, Rate: rate, Duration: b.duration})
	return f, err
}

// closed measures the closed load, in turn with Redis itself where there is one.
func (b *benchLookup) closed(ctx context.Context, t *lookupTarget, raw *rawLoad, requests []bench.Request, f *lookupFigures) (err error) {
	load, err := bench.DialClosed(ctx, t.server.addr, requests, b.connections)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.Close()) }()
	// A warm server is what runs for days.
	if _, err := load.Run(ctx, max(b.duration/5, 50*time.Millisecond)); err != nil {
		return err
	}
	load.Reset()
	var cpu time.Duration
	round := max(b.duration/time.Duration(b.rounds), 10*time.Millisecond)
	for range b.rounds {
		var own float64
		if raw != nil {
			if own, err = raw.round(ctx, round); err != nil {
				return err
			}
		}
		before := t.server.cpu()
		rate, err := load.Run(ctx, round)
		if err != nil {
			return err
		}
		cpu += t.server.cpu() - before
		if own > 0 {
			f.Rounds = append(f.Rounds, bench.Round{PerSecond: rate, Raw: own})
		}
	}
	f.Closed = load.Figures()
	f.CPU = float64(cpu.Microseconds()) / 1000 / float64(max(f.Closed.Requests, 1))
	if raw == nil {
		return nil
	}
	shares := bench.SharesOf(f.Rounds)
	f.Raw, f.Ratio, f.RatioLeast, f.RatioMost = &raw.figures, shares.Median, shares.Least, shares.Most
	if f.RedisSameKeys = raw.same; raw.own {
		f.RedisBenchmark = shares.Raw
	}
	return nil
}

// without adds to a request what its answer is to leave out.
func (b *benchLookup) without(body []byte) []byte {
	if len(b.omit) == 0 {
		return body
	}
	body = append(body[:len(body)-1], `,"omit":[`...)
	for i, o := range b.omit {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendQuote(body, o)
	}
	return append(body, "]}"...)
}

// rawLoad reads records from Redis with nothing on top.
type rawLoad struct {
	redis       *bench.Redis
	clients     []bench.Client
	closeAll    func() error
	connections int
	words       []string // redis-benchmark's flags and the command it sends; none where it cannot
	own         bool     // it is redis-benchmark that measures
	perSecond   float64  // the last rate
	same        float64  // that of redis-benchmark with the same keys all the time
	figures     bench.Figures
}

// raw makes ready to read the same records from Redis, as many in one command as there are entities in a
// request, and measures it once. The caller calls close.
func (b *benchLookup) raw(ctx context.Context, t *lookupTarget, entities, features int) (_ *rawLoad, err error) {
	keys, err := t.redis.Keys(ctx, t.key(features), b.entities)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("bench: redis %s has no records of these views", t.redis.Addr)
	}
	r := &rawLoad{redis: t.redis, connections: b.connections}
	commands := make([][]byte, requestsMade)
	for i := range commands {
		r.words = []string{"GET"}
		if entities > 1 {
			r.words[0] = "MGET"
		}
		for range entities {
			r.words = append(r.words, keys[rand.IntN(len(keys))]) //nolint:gosec // load
		}
		commands[i] = bench.Command(r.words...)
	}
	r.clients, r.closeAll, err = connect(b.connections, func() (bench.Client, error) { return bench.DialRedis(ctx, *t.redis, commands, 1) })
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.figures, err = bench.Run(ctx, bench.Load{Clients: r.clients, Duration: max(b.duration/time.Duration(b.rounds), 10*time.Millisecond)}); err != nil {
		return nil, err
	}
	r.perSecond = r.figures.PerSecond
	if b.own() {
		if slices.ContainsFunc(r.words, func(w string) bool { return strings.ContainsRune(w, 0) }) {
			r.words = nil // a program's arguments cannot have zero bytes
		}
		return r, nil
	}
	var same []string
	if r.words, same, err = b.stand(ctx, t, entities, int(r.figures.AnswerBytes/float64(entities))); err != nil {
		return nil, err
	}
	n := strconv.Itoa(max(int(r.perSecond*b.duration.Seconds()/float64(b.rounds)), 1000))
	r.same, err = r.redis.Benchmark(ctx, append([]string{"-c", strconv.Itoa(r.connections), "-n", n}, same...)...)
	return r, err
}

// round measures for about as long as told: commands in a second.
func (r *rawLoad) round(ctx context.Context, d time.Duration) (float64, error) {
	if len(r.words) > 0 {
		n := strconv.Itoa(max(int(r.perSecond*d.Seconds()), 1000))
		rate, err := r.redis.Benchmark(ctx, append([]string{"-c", strconv.Itoa(r.connections), "-n", n}, r.words...)...)
		if err != nil {
			return 0, err
		}
		if rate > 0 {
			r.own, r.perSecond = true, rate
			return rate, nil
		}
	}
	f, err := bench.Run(ctx, bench.Load{Clients: r.clients, Duration: d})
	return f.PerSecond, err
}

// close closes the connections; of nil it does nothing.
func (r *rawLoad) close() error {
	if r == nil {
		return nil
	}
	return r.closeAll()
}

// stand makes as many keys as there are entities, which a command line can have, with values of size bytes, and returns the
// commands that read n of them: random ones each time, and the same ones.
// Only in the Redis of a synthetic run: elsewhere nothing is written.
func (b *benchLookup) stand(ctx context.Context, t *lookupTarget, n, size int) (random, same []string, err error) {
	key := fmt.Sprintf("%s{raw}%d:", t.project, size)
	value := strings.Repeat("x", size)
	var set []byte
	for i := range b.entities {
		set = append(set, bench.Command("SET", fmt.Sprintf("%s%012d", key, i), value)...)
	}
	command := "GET"
	if n > 1 {
		command = "MGET"
	}
	random, same = []string{"-r", strconv.Itoa(b.entities), command}, []string{command}
	for i := range n {
		random, same = append(random, key+"__rand_int__"), append(same, fmt.Sprintf("%s%012d", key, i%b.entities))
	}
	c, err := bench.DialRedis(ctx, *t.redis, [][]byte{set}, b.entities)
	if err != nil {
		return nil, nil, err
	}
	_, err = c.Do(0)
	return random, same, errors.Join(err, c.Close())
}

func (b *benchLookup) print(doc lookupDocument) error {
	if b.c.json {
		return b.c.document(doc)
	}
	t := newTable("SHAPE", "FORMAT", ">REQUESTS/S", ">P50 MS", ">P99 MS", ">CPU MS", ">AT A RATE OF", ">P50 MS", ">P99 MS", ">P99.9 MS", ">REDIS/S", ">OF IT", ">SAME KEYS/S", ">ERRORS")
	ms := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
	for _, f := range doc.Figures {
		redis, ratio, same := "", "", ""
		if f.Raw != nil {
			redis, ratio = count(int64(f.Raw.PerSecond)), fmt.Sprintf("%.0f %% (%.0f-%.0f)", 100*f.Ratio, 100*f.RatioLeast, 100*f.RatioMost)
			if f.RedisBenchmark > 0 {
				redis = count(int64(f.RedisBenchmark))
			}
			if f.RedisSameKeys > 0 {
				same = count(int64(f.RedisSameKeys))
			}
		}
		t.add(fmt.Sprintf("%dx%d", f.Entities, f.Features), f.Format, int64(f.Closed.PerSecond), ms(f.Closed.Latency.P50), ms(f.Closed.Latency.P99), strconv.FormatFloat(f.CPU, 'f', 3, 64),
			int64(f.Open.Rate), ms(f.Open.Latency.P50), ms(f.Open.Latency.P99), ms(f.Open.Latency.P999), redis, ratio, same, f.Closed.Errors+f.Open.Errors)
	}
	b.c.print(t)
	for _, f := range doc.Figures {
		if first := f.Closed.FirstError + f.Open.FirstError; first != "" {
			b.c.note("%dx%d: %s", f.Entities, f.Features, first)
		}
	}
	return nil
}
