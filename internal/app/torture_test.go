package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Windows are streamed by processes of their own from a real Kafka into a real Redis, while
// faults happen; after each, every entity equals the oracle. The short form has one round of each fault or a
// few; the long one, by `make torture`, FOREBAY_TORTURE of them.

const (
	tortureEnv  = "FOREBAY_TORTURE_DIR"
	tortureLong = "FOREBAY_TORTURE"
	// tortureSession is Kafka's least: after so long the partitions of a killed member go to others.
	tortureSession = 6 * time.Second
)

// rounds are how often a fault happens.
func rounds(t *testing.T, short int) int {
	if n, err := strconv.Atoi(os.Getenv(tortureLong)); err == nil {
		return n
	}
	if testing.Short() {
		t.Skip("faults on real servers take a minute")
	}
	return short
}

// tortured is the process that streams.
func tortured(dir string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(2) // who started it is gone
	}()
	a, err := Open(ctx, Options{Dir: dir, Command: "stream", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err == nil {
		if _, err = a.onlineStore(ctx); err == nil {
			fmt.Println("begun")
		}
	}
	if err == nil {
		a.session = tortureSession
		_, err = a.Stream(ctx, StreamOptions{})
		_ = a.Close()
	}
	if err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) { // else it had not begun
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// torture is a topic that somebody writes to, and processes that stream it.
type torture struct {
	*testing.T
	dir       string
	brokers   *testenv.Brokers
	topic     string
	project   *registry.Project
	rng       *rand.Rand
	generator materializetest.Generator
	app       *App

	mu      sync.Mutex
	events  []materializetest.Event
	members []*member
	logs    string // of members that have left
}

const torturePartitions = 4

func newTorture(t *testing.T, brokers *testenv.Brokers, online string) *torture {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &torture{T: t, dir: t.TempDir(), brokers: brokers, topic: brokers.Topic(t, torturePartitions), rng: rand.New(rand.NewPCG(seed, 0))}
	w.generator = materializetest.Generator{Rand: rand.New(rand.NewPCG(seed, 1)), Clock: 1_700_000_000_000_000}
	var err error
	if w.project, err = materializetest.WithWindows(w.topic, "json", "user"); err != nil {
		t.Fatal(err)
	}
	project := strings.ToLower("t" + w.topic[max(0, len(w.topic)-8):])
	w.project.Name = project // which its records say
	write(t, filepath.Join(w.dir, "forebay.yaml"), fmt.Sprintf(`version: 1
project: %s
environments:
  local:
    registry: file://./.forebay/registry
    offline: {store: parquet, url: "file://./.forebay/offline"}
    online: %s
    stream: {brokers: ["%s"]}
`, project, online, strings.Join(brokers.Addrs(), `", "`)))
	write(t, filepath.Join(w.dir, "features.yaml"), materializetest.WindowFeatures(w.topic, "user"))
	if w.app, err = Open(t.Context(), Options{Dir: w.dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.app.Close() })
	p, err := w.app.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.app.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, m := range w.members {
			_ = m.cmd.Process.Kill()
			<-m.done
			if t.Failed() {
				log := m.log.String()
				t.Logf("the end of the log of process %d:\n%s", m.cmd.Process.Pid, log[max(0, len(log)-6000):])
			}
		}
	})
	return w
}

// member is a process that streams.
type member struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan struct{}
	err  error
	// begun is closed when it has said that it takes signals, and has reached the online store: before that a
	// process that does not reach it ends.
	begun chan struct{}
	once  sync.Once
}

// wait waits until it has begun.
func (m *member) wait() {
	select {
	case <-m.begun:
	case <-m.done:
	}
}

// Write hears what the process says.
func (m *member) Write(p []byte) (int, error) {
	m.once.Do(func() { close(m.begun) })
	return len(p), nil
}

func (w *torture) join() *member {
	w.Helper()
	m := &member{done: make(chan struct{}), begun: make(chan struct{})}
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), tortureEnv+"="+w.dir)
	m.cmd.Stdout, m.cmd.Stderr = m, &m.log
	if _, err := m.cmd.StdinPipe(); err != nil { // it is closed when this process ends, however that ends
		w.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	go func() {
		m.err = m.cmd.Wait()
		close(m.done)
	}()
	w.members = append(w.members, m)
	return m
}

// kill kills a member, as kill -9 does.
func (w *torture) kill(m *member) {
	_ = m.cmd.Process.Kill()
	<-m.done
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == m })
}

// leave has a member end in order.
func (w *torture) leave(m *member) {
	w.Helper()
	m.wait() // else the signal just ends it
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	<-m.done
	if m.err != nil {
		w.Errorf("a member that was asked to end: %v\n%s", m.err, m.log.String())
	}
	w.logs += m.log.String()
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == m })
}

// produce writes n events; it waits for their acknowledgement.
func (w *torture) produce(n int) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	records := make([]*kgo.Record, n)
	events := make([]materializetest.Event, n)
	for i := range records {
		e := w.generator.Event()
		at := time.Now()
		h := fnv.New32a()
		if e.User != nil {
			_, _ = h.Write([]byte(*e.User))
		}
		e.Partition, e.Ingested = int32(h.Sum32()%torturePartitions), at.UnixMilli()*1000
		records[i] = &kgo.Record{Topic: w.topic, Partition: e.Partition, Value: []byte(e.JSON()), Timestamp: at}
		events[i] = e
	}
	w.brokers.Produce(w, records...)
	for i := range events {
		events[i].Offset = records[i].Offset
	}
	w.events = append(w.events, events...)
}

// during writes events all the while that what lasts.
func (w *torture) during(what func()) {
	w.Helper()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				w.produce(10)
			}
		}
	}()
	what()
	close(quit)
	<-done
}

// pause lets time pass, so that something is under way.
func (w *torture) pause(least, most time.Duration) {
	<-time.After(least + rand.N(most-least+1))
}

// differences compares every entity with the oracle.
func (w *torture) differences() []string {
	on, err := w.app.onlineStore(w.Context())
	if err != nil {
		return []string{err.Error()}
	}
	sink := &onlineSink{store: on}
	w.mu.Lock()
	defer w.mu.Unlock()
	var failed error
	diffs := materializetest.WindowDifferences(w.project, w.events, func(v registry.ViewGeneration) map[string]materialize.WindowRecord {
		seen := map[string]bool{}
		var keys [][]byte
		for _, e := range w.events {
			value := feature.Value{}
			if v.View.Name == "user_windows" && e.User != nil {
				value = feature.OfString(*e.User)
			} else if v.View.Name == "shop_windows" && e.Shop != nil {
				value = feature.OfInt64(*e.Shop)
			}
			if value.IsNull() {
				continue
			}
			if key := feature.AppendKey(nil, value, true); !seen[string(key)] {
				seen[string(key)] = true
				keys = append(keys, key)
			}
		}
		records, all := make([]materialize.WindowRecord, len(keys)), map[string]materialize.WindowRecord{}
		if err := sink.States(w.Context(), v, keys, records); err != nil {
			failed = err
			return nil
		}
		for _, r := range records {
			if r.State != nil {
				all[string(r.Key)] = r
			}
		}
		return all
	})
	if failed != nil {
		return []string{failed.Error()}
	}
	return diffs
}

// caughtUp waits until everything equals the oracle; the members are left as they are.
func (w *torture) caughtUp() {
	w.Helper()
	deadline := time.After(90 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, m := range w.members {
			select {
			case <-m.done:
				w.Fatalf("a member ended: %v\n%s", m.err, m.log.String())
			default:
			}
		}
		d := w.differences()
		if len(d) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("%d differences after %d events:\n%s", len(d), len(w.events), strings.Join(d[:min(len(d), 5)], "\n"))
		}
	}
}

// end has all members end in order, and checks once more: the log has each event once too.
func (w *torture) end() {
	w.Helper()
	leave := func() {
		for len(w.members) > 0 {
			w.leave(w.members[0])
		}
	}
	leave()
	if d := w.differences(); len(d) > 0 {
		// They were asked to end while a view was being built again, and have left it behind, but not wrong: another goes on.
		w.Logf("%d differences when all had left, the first %s", len(d), d[0])
		w.join()
		w.caughtUp()
		leave()
	}
	if d := w.differences(); len(d) > 0 {
		w.Fatalf("%d differences at the end:\n%s\n%s", len(d), strings.Join(d[:min(len(d), 5)], "\n"), w.logs)
	}
	off, err := w.app.offlineStore(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	log, err := off.Log(w.Context(), w.app.source(w.T))
	if err != nil || log.Rows != int64(len(w.events)) {
		w.Fatalf("the log has %d rows of %d events, %v", log.Rows, len(w.events), err)
	}
	w.Logf("%d events", len(w.events))
}

func (a *App) source(t *testing.T) *registry.Source {
	head, err := a.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &head.Project.Sources[0]
}

func single(n *testenv.RedisNode) string {
	return fmt.Sprintf("{store: redis, addrs: [%q], mode: single}", n.Addr)
}

// TestKilledStreams kills one of two members again and again, and now and then both.
func TestKilledStreams(t *testing.T) {
	n := rounds(t, 4)
	t.Parallel()
	w := newTorture(t, testenv.Kafka(t), single(testenv.RedisServer(t)))
	w.join()
	w.join()
	for round := range n {
		w.during(func() {
			w.pause(0, 3*time.Second)
			w.kill(w.members[w.rng.IntN(len(w.members))])
			if w.rng.IntN(3) == 0 {
				w.kill(w.members[0])
				w.join()
			}
			w.pause(0, time.Second)
			w.join()
		})
		if round%4 == 3 || round == n-1 {
			w.caughtUp()
		}
	}
	w.end()
}

// TestStreamsThatComeAndGo has a third member join while events are written, and members leave.
func TestStreamsThatComeAndGo(t *testing.T) {
	n := rounds(t, 2)
	t.Parallel()
	w := newTorture(t, testenv.Kafka(t), single(testenv.RedisServer(t)))
	w.join()
	w.join()
	for range n {
		w.during(func() {
			w.join()
			w.pause(time.Second, 3*time.Second)
			w.leave(w.members[w.rng.IntN(len(w.members))])
			w.pause(0, time.Second)
		})
		w.caughtUp()
	}
	w.end()
}

// TestRedisIsKilled restarts Redis, which has lost everything, or with an append-only file the last second.
func TestRedisIsKilled(t *testing.T) {
	n := rounds(t, 2)
	t.Parallel()
	for name, args := range map[string][]string{"nothing kept": nil, "append-only file": {"--appendonly", "yes", "--appendfsync", "everysec"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := testenv.RedisServer(t, args...)
			w := newTorture(t, testenv.Kafka(t), single(redis))
			w.join().wait()
			w.join().wait()
			for range n {
				w.during(func() {
					w.pause(2*time.Second, 4*time.Second)
					redis.Kill(t)
					w.pause(0, time.Second)
					redis.Restart(t)
					w.pause(0, time.Second)
				})
				w.caughtUp()
			}
			w.end()
		})
	}
}

// TestRedisFailsOver has Sentinels promote a replica that lacks writes that the master had acknowledged.
func TestRedisFailsOver(t *testing.T) {
	n := rounds(t, 1)
	t.Parallel()
	for range n {
		sentinels := testenv.RedisSentinel(t)
		var addrs []string
		for _, a := range sentinels.Addrs() {
			addrs = append(addrs, strconv.Quote(a))
		}
		w := newTorture(t, testenv.Kafka(t), fmt.Sprintf("{store: redis, addrs: [%s], mode: sentinel, master_name: %s}", strings.Join(addrs, ", "), sentinels.MasterName))
		w.join().wait()
		w.join().wait()
		w.during(func() {
			w.pause(3*time.Second, 5*time.Second)
			// The replica gets nothing from now on, and stays fit to be promoted for a while.
			if err := sentinels.Replica.Client(t).Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
				t.Fatal(err)
			}
			w.pause(1500*time.Millisecond, 3*time.Second)
			sentinels.Master.Kill(t)
			w.pause(3*time.Second, 4*time.Second)
		})
		w.caughtUp()
		w.end()
		if !strings.Contains(w.logs, "another server takes the online store's writes") && !strings.Contains(w.logs, "the online store has lost writes") {
			t.Error("nobody noticed that another server takes the writes")
		}
	}
}

// TestNetworkStalls has Redis, and then Kafka, answer nothing for a while, with all connections open.
func TestNetworkStalls(t *testing.T) {
	n := rounds(t, 1)
	t.Parallel()
	redis := testenv.RedisServer(t)
	brokers := testenv.KafkaCluster(t, 1)
	w := newTorture(t, brokers, single(redis))
	w.join().wait()
	w.join().wait()
	for range n {
		w.during(func() {
			w.pause(2*time.Second, 3*time.Second)
			resume := redis.Pause(t)
			w.pause(time.Second, 5*time.Second)
			resume()
		})
		w.caughtUp()
		w.during(func() {
			resume := brokers.Pause(t, 1)
			w.pause(time.Second, 8*time.Second) // some beyond the session's end
			resume()
		})
		w.caughtUp()
	}
	w.end()
}

// TestBrokersAreKilled kills and revives the brokers of a cluster in turn.
func TestBrokersAreKilled(t *testing.T) {
	if os.Getenv(tortureLong) == "" {
		t.Skip("a cluster of three brokers takes a while: make torture")
	}
	n := rounds(t, 1)
	w := newTorture(t, testenv.KafkaCluster(t, 3), single(testenv.RedisServer(t)))
	w.join().wait()
	w.join().wait()
	for round := range n {
		w.during(func() {
			w.pause(time.Second, 3*time.Second)
			w.brokers.Kill(t, 1+round%3)
			w.pause(time.Second, 5*time.Second)
			w.brokers.Revive(t, 1+round%3)
		})
		w.caughtUp()
	}
	w.end()
}
