package redis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/onlinetest"
)

// cachedOpener opens stores with a cache that Redis tells of changes.
func cachedOpener(o Options) func(testing.TB, string) online.Store {
	return func(t testing.TB, project string) online.Store {
		o.Project = project
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		c, err := online.Cache(s, s, online.CacheOptions{MaxBytes: 1 << 20, MaxAge: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func TestConformanceCached(t *testing.T) {
	n := testenv.RedisServer(t)
	leaks := goleak.IgnoreCurrent()
	onlinetest.Run(t, onlinetest.Backend{Open: cachedOpener(Options{Addrs: []string{n.Addr}}), Address: n.Addr})
	goleak.VerifyNone(t, leaks)
}

// news is what a tracker tells.
type news struct{ ch chan string }

func newNews() news { return news{make(chan string, 1000)} }

func (n news) Forget(k online.Key) { n.ch <- fmt.Sprintf("%s@%d %s", k.View, k.Generation, k.Entity) }
func (n news) Watching()           { n.ch <- "watching" }
func (n news) Blind(err error) {
	what := "blind"
	if !errors.Is(err, online.ErrUnavailable) {
		what = err.Error()
	}
	select {
	case n.ch <- what:
	default:
	}
}

// await reads the news until it is as wanted.
func (n news) await(t *testing.T, want string) {
	t.Helper()
	after := time.After(20 * time.Second)
	for {
		select {
		case got := <-n.ch:
			if got == want {
				return
			}
		case <-after:
			t.Fatalf("nobody tells %q", want)
		}
	}
}

func track(t *testing.T, s *Store) news {
	n := newNews()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Track(ctx, n) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	n.await(t, "watching")
	return n
}

// TestTrack: whatever happens to a record, and whoever does it, is told.
func TestTrack(t *testing.T) {
	n := testenv.RedisServer(t, "--requirepass", "secret")
	o := Options{Addrs: []string{n.Addr}, Project: "p", Password: "secret"}
	reader, writer := open(t, o), open(t, o)
	told := track(t, reader)
	ctx := t.Context()
	get := func(entity string) {
		t.Helper()
		if err := reader.Get(ctx, []online.Key{rec("v", entity, 1, "").Key}, make([][]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	write := func(records ...online.Record) {
		t.Helper()
		if _, err := writer.Write(ctx, records, online.IfNewer); err != nil {
			t.Fatal(err)
		}
	}
	get("a}{\x00b") // absent
	write(rec("v", "a}{\x00b", 1, ""))
	told.await(t, "v@1 a}{\x00b")
	write(rec("v", "a}{\x00b", 2, ""), rec("v", "b", 1, "")) // by the script
	told.await(t, "v@1 b")
	soon := rec("v", "soon", 1, "")
	soon.TTL = time.Millisecond
	write(soon)
	told.await(t, "v@1 soon")
	told.await(t, "v@1 soon") // expired
	if err := writer.Drop(ctx, "v", 1); err != nil {
		t.Fatal(err)
	}
	told.await(t, "v@1 b")
	write(rec("other", "a", 1, ""), rec("v", "last", 1, "")) // of other the reader has read nothing
	if got := <-told.ch; got != "v@1 last" && got != "v@1 a}{\x00b" {
		t.Errorf("told %q", got)
	}
	n.Kill(t)
	told.await(t, "blind")
	n.Restart(t)
	told.await(t, "watching")
	write(rec("v", "back", 1, ""))
	told.await(t, "v@1 back")
	resume := n.Pause(t)
	told.await(t, "blind")
	resume()
	told.await(t, "watching")
	if err := writer.db.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	told.await(t, "blind") // all of it is gone
	told.await(t, "watching")
}

// TestTrackCluster: every shard tells, also of slots that have moved there.
func TestTrackCluster(t *testing.T) {
	r := testenv.RedisCluster(t)
	s := open(t, Options{Addrs: r.Addrs(), Mode: Cluster})
	told := track(t, s)
	for i := range 30 {
		e := fmt.Sprint("entity", i)
		key := string(s.appendRecordKey(nil, s.generationID("v", 1), []byte(e)))
		if i == 0 {
			n := int(slot(key[s.tagStart() : s.tagStart()+tagLen]))
			r.MoveSlot(t, n, (n/5462+1)%3, func() {})
		}
		if _, err := s.Write(t.Context(), []online.Record{rec("v", e, 1, "")}, online.IfNewer); err != nil {
			t.Fatal(err)
		}
		told.await(t, "v@1 "+e)
	}
}

func TestTrackSentinel(t *testing.T) {
	r := testenv.RedisSentinel(t)
	s := open(t, Options{Addrs: r.Addrs(), Mode: Sentinel, MasterName: r.MasterName})
	told := track(t, s)
	r.Master.Kill(t)
	told.await(t, "blind")
	told.await(t, "watching")
	for { // until the replica has taken over
		_, err := s.Write(t.Context(), []online.Record{rec("v", "e", 1, "")}, online.IfNewer)
		if err == nil {
			break
		}
		if !errors.Is(err, online.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	told.await(t, "v@1 e")
}

// TestHedge: while the master says nothing, its replica answers.
func TestHedge(t *testing.T) {
	r := testenv.RedisSentinel(t)
	leaks := goleak.IgnoreCurrent()
	s, err := Open(Options{Addrs: r.Addrs(), Mode: Sentinel, MasterName: r.MasterName, Project: "p", Hedge: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	want := rec("v", "e", 1, "payload")
	if _, err := s.Write(ctx, []online.Record{want}, online.IfNewer); err != nil {
		t.Fatal(err)
	}
	get := func() []byte {
		t.Helper()
		dst := make([][]byte, 2)
		if err := s.Get(ctx, []online.Key{want.Key, rec("v", "none", 1, "").Key}, dst); err != nil {
			t.Fatal(err)
		}
		if dst[1] != nil {
			t.Errorf("%x for one that is not there", dst[1])
		}
		return dst[0]
	}
	for c := r.Replica.Client(t); ; { // until the replica has it
		if n, err := c.Exists(ctx, string(s.appendRecordKey(nil, generationID("v", 1), []byte("e")))).Result(); err != nil {
			t.Fatal(err)
		} else if n == 1 {
			break
		}
	}
	for range 20 {
		if got := get(); string(got) != string(want.Value) {
			t.Fatalf("%x", got)
		}
	}
	resume := r.Master.Pause(t)
	for range 20 {
		if got := get(); string(got) != string(want.Value) {
			t.Fatalf("%x", got)
		}
	}
	resume()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Get(ctx, []online.Key{want.Key}, make([][]byte, 1)); !errors.Is(err, online.ErrClosed) {
		t.Error(err)
	}
	goleak.VerifyNone(t, leaks)
	if _, err := Open(Options{Addrs: r.Addrs()[:1], Project: "p", Hedge: 1}); err == nil {
		t.Error("hedged reads of a single server")
	}
}

// TestHedgedLookupsDoNotFail: while Sentinel looks for a new master and makes the replica that, every
// lookup is answered.
func TestHedgedLookupsDoNotFail(t *testing.T) {
	r := testenv.RedisSentinel(t)
	s := open(t, Options{Addrs: r.Addrs(), Mode: Sentinel, MasterName: r.MasterName, Hedge: 5 * time.Millisecond})
	ctx := t.Context()
	first := rec("v", "e", 1, "")
	if _, err := s.Write(ctx, []online.Record{first}, online.IfNewer); err != nil {
		t.Fatal(err)
	}
	for c := r.Replica.Client(t); ; { // until the replica has it
		if n, err := c.DBSize(ctx).Result(); err != nil {
			t.Fatal(err)
		} else if n >= 2 { // and the hash of generations
			break
		}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				asking, cancel := context.WithTimeout(ctx, 5*time.Second)
				dst := make([][]byte, 1)
				err := s.Get(asking, []online.Key{first.Key}, dst)
				cancel()
				if err != nil || dst[0] == nil {
					t.Errorf("lookup %d: %x, %v", n, dst[0], err)
					return
				}
			}
		})
	}
	r.Master.Kill(t)
	for order := uint64(2); ; order++ { // until there is a master again
		if _, err := s.Write(ctx, []online.Record{rec("v", "e", order, "")}, online.IfNewer); err == nil {
			break
		} else if !errors.Is(err, online.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
}

// FuzzTracked: whatever a server sends, reading it ends.
func FuzzTracked(f *testing.F) {
	f.Add([]byte(">2\r\n$10\r\ninvalidate\r\n*1\r\n$12\r\np{abc}diJpQe\r\n"))
	f.Add([]byte(">2\r\n$10\r\ninvalidate\r\n_\r\n+PONG\r\n"))
	f.Add([]byte("%1\r\n$6\r\nserver\r\n*-1\r\n-ERR no\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := trackConn{in: bufio.NewReader(bytes.NewReader(data))}
		for c.reply(func([]byte) {}) == nil {
		}
	})
}
