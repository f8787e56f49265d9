package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/onlinetest"
)

// quiet keeps what the client says of broken connections out of the tests' output.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	goredis.SetLogger(quiet{})
	os.Exit(m.Run())
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Project == "" {
		o.Project = fmt.Sprintf("t%x", rand.Uint64())
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func opener(o Options) func(testing.TB, string) online.Store {
	return func(t testing.TB, project string) online.Store {
		o.Project = project
		return open(t, o)
	}
}

func TestConformance(t *testing.T) {
	n := testenv.RedisServer(t)
	leaks := goleak.IgnoreCurrent()
	onlinetest.Run(t, onlinetest.Backend{
		Open:   opener(Options{Addrs: []string{n.Addr}}),
		Shared: true,
		Break: func(t testing.TB) func() {
			n.Kill(t)
			return func() { n.Restart(t) }
		},
		Address: n.Addr,
	})
	goleak.VerifyNone(t, leaks)
}

func TestConformancePaused(t *testing.T) {
	n := testenv.RedisServer(t)
	onlinetest.Run(t, onlinetest.Backend{
		Open:    opener(Options{Addrs: []string{n.Addr}}),
		Shared:  true,
		Break:   func(t testing.TB) func() { return n.Pause(t) },
		Address: n.Addr,
		Slow:    2 * time.Second,
	})
}

func TestConformanceSentinel(t *testing.T) {
	r := testenv.RedisSentinel(t)
	r.Patient(t)
	leaks := goleak.IgnoreCurrent()
	onlinetest.Run(t, onlinetest.Backend{
		Open:   opener(Options{Addrs: r.Addrs(), Mode: Sentinel, MasterName: r.MasterName}),
		Shared: true,
	})
	goleak.VerifyNone(t, leaks)
}

func TestConformanceCluster(t *testing.T) {
	r := testenv.RedisCluster(t)
	leaks := goleak.IgnoreCurrent()
	onlinetest.Run(t, onlinetest.Backend{
		Open:   opener(Options{Addrs: r.Addrs(), Mode: Cluster}),
		Shared: true,
		Break: func(t testing.TB) func() {
			var resume []func()
			for _, n := range r.Nodes {
				resume = append(resume, n.Pause(t))
			}
			return func() {
				for _, f := range resume {
					f()
				}
			}
		},
		Address: r.Nodes[0].Addr,
	})
	goleak.VerifyNone(t, leaks)
}

func rec(view, entity string, order uint64, payload string) online.Record {
	v := make([]byte, online.OrderStart+online.OrderLen)
	v[0] = 1
	binary.BigEndian.PutUint64(v[1:], order)
	return online.Record{Key: online.Key{View: view, Generation: 1, Entity: []byte(entity)}, Value: append(v, payload...)}
}

// TestKeys holds the format of keys.
func TestKeys(t *testing.T) {
	s := &Store{o: Options{Project: "flights"}}
	for _, test := range []struct{ view, entity, want string }{
		{"airport_latest", "SFO", "flights{OcX}diJpQeSFO"},
		{"airport_latest", "}{", "flights{STB}diJpQe}{"},
		{"a{b}", "", "flights{mkS}OKFAQB"},
	} {
		if got := string(s.appendRecordKey(nil, generationID(test.view, 1), []byte(test.entity))); got != test.want {
			t.Errorf("the key of %s %q: %q, want %q", test.view, test.entity, got, test.want)
		}
	}
	if got := s.resumesKey("v", 2); got != "flights{forebay}resumes:v@2" {
		t.Errorf("%q", got)
	}
}

// TestSlot compares with the server's own reckoning, and sees that tags spread evenly.
func TestSlot(t *testing.T) {
	r := testenv.RedisCluster(t)
	c := r.Nodes[0].Client(t)
	s := open(t, Options{Addrs: r.Addrs(), Mode: Cluster, Project: "p"})
	perNode := map[int]int{}
	for i := range 6000 {
		key := string(s.appendRecordKey(nil, generationID("v", 1), fmt.Append(nil, i, "}{\x00")))
		got := slot(key[s.tagStart() : s.tagStart()+tagLen])
		perNode[int(got)/5462]++
		if i%100 == 0 {
			want, err := c.ClusterKeySlot(t.Context(), key).Result()
			if err != nil || int64(got) != want {
				t.Fatalf("%q: slot %d, want %d (%v)", key, got, want, err)
			}
		}
	}
	for n, count := range perNode {
		if count < 1800 || count > 2200 {
			t.Errorf("third %d of the slots has %d of 6000 keys", n, count)
		}
	}
}

func TestOptions(t *testing.T) {
	good := Options{Project: "p", Addrs: []string{"localhost:6379"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Options){
		"project":     func(o *Options) { o.Project = "p{}" },
		"addrs":       func(o *Options) { o.Addrs = nil },
		"host:port":   func(o *Options) { o.Addrs = []string{"localhost"} },
		"2 addresses": func(o *Options) { o.Addrs = []string{"a:1", "b:1"} },
		"mode":        func(o *Options) { o.Mode = "triple" },
		"master_name": func(o *Options) { o.Mode = Sentinel },
		"db":          func(o *Options) { o.Mode, o.DB = Cluster, 1 },
		"password":    func(o *Options) { o.Username = "u" },
		"pool_size":   func(o *Options) { o.PoolSize = -1 },
		"negative":    func(o *Options) { o.Timeout = -1 },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one with %q", err, want)
		}
		if _, err := Open(o); err == nil {
			t.Errorf("Open of %+v", o)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	ctx := t.Context()
	write := func(s *Store) error {
		_, err := s.Write(ctx, []online.Record{rec("v", "e", 1, strings.Repeat("x", 1<<20))}, online.IfNewer)
		return err
	}
	t.Run("Full", func(t *testing.T) {
		n := testenv.RedisServer(t, "--maxmemory", "3mb")
		s := open(t, Options{Addrs: []string{n.Addr}})
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			_, err = s.Write(ctx, []online.Record{rec("v", fmt.Sprint(i), 1, strings.Repeat("x", 1<<20))}, online.IfNewer)
		}
		if !errors.Is(err, online.ErrFull) || !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), "maxmemory") {
			t.Errorf("%v", err)
		}
	})
	t.Run("Password", func(t *testing.T) {
		n := testenv.RedisServer(t, "--requirepass", "secret")
		if err := open(t, Options{Addrs: []string{n.Addr}}).Ping(ctx); !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), "check username and password") {
			t.Errorf("%v", err)
		}
		if err := open(t, Options{Addrs: []string{n.Addr}, Password: "secret"}).Ping(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("ACL", func(t *testing.T) {
		// The rules of docs/format/redis-keys.md are enough for everything.
		n := testenv.RedisServer(t)
		acl := []any{"ACL", "SETUSER", "forebay", "on", ">pw", "~acl{*", "+ping", "+hello", "+auth", "+select", "+info", "+mget", "+get", "+getrange", "+set", "+eval", "+evalsha",
			"+scan", "+unlink", "+del", "+hgetall", "+hget", "+hmget", "+hset", "+hsetnx", "+hdel", "+memory|usage"}
		if err := n.Client(t).Do(ctx, acl...).Err(); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Addrs: []string{n.Addr}, Username: "forebay", Password: "pw", Project: "acl"})
		for name, err := range map[string]error{
			"Write":      write(s),
			"Get":        s.Get(ctx, []online.Key{rec("v", "e", 1, "").Key}, make([][]byte, 1)),
			"SetLive":    s.SetLive(ctx, "v", 1),
			"SetResumes": s.SetResumes(ctx, []online.Resume{{View: "v", Generation: 1, Input: "i", Position: "p"}}),
			"Ping":       s.Ping(ctx),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, _, err := s.Usage(ctx, "v", 1); err != nil {
			t.Error(err)
		}
		if _, err := s.Check(ctx); err != nil {
			t.Error(err)
		}
		if err := s.Drop(ctx, "v", 1); err != nil {
			t.Error(err)
		}
		other := open(t, Options{Addrs: []string{n.Addr}, Username: "forebay", Password: "pw", Project: "other"})
		if err := write(other); !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), "ACL user") {
			t.Errorf("%v", err)
		}
	})
	t.Run("ClusterAsSingle", func(t *testing.T) {
		r := testenv.RedisCluster(t)
		s := open(t, Options{Addrs: r.Addrs()[:1]})
		var err error
		for i := 0; i < 20 && err == nil; i++ {
			err = s.Get(ctx, []online.Key{rec("v", fmt.Sprint(i), 1, "").Key}, make([][]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), "mode cluster") {
			t.Errorf("%v", err)
		}
	})
	t.Run("Away", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		for _, mode := range []Mode{Single, Sentinel, Cluster} {
			o := Options{Addrs: []string{"127.0.0.1:1"}, Project: "p", Mode: mode}
			if mode == Sentinel {
				o.MasterName = "m"
			}
			if err := open(t, o).Ping(ctx); !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
				t.Errorf("%s: %v", mode, err)
			}
		}
	})
	t.Run("WrongType", func(t *testing.T) {
		n := testenv.Redis(t)
		s := open(t, Options{Addrs: []string{n.Addr}})
		key := string(s.appendRecordKey(nil, generationID("v", 1), []byte("e")))
		if err := n.Client(t).RPush(ctx, key, 1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := write(s); !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), "something else") {
			t.Errorf("%v", err)
		}
	})
	t.Run("Replica", func(t *testing.T) {
		n := testenv.RedisServer(t, "--replicaof", "127.0.0.1 1")
		s := open(t, Options{Addrs: []string{n.Addr}, Retries: -1})
		if err := s.SetLive(ctx, "v", 1); !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), "it is a replica") {
			t.Errorf("%v", err)
		}
	})
}

func TestFormat(t *testing.T) {
	ctx := t.Context()
	n := testenv.Redis(t)
	s := open(t, Options{Addrs: []string{n.Addr}})
	c := n.Client(t)
	if err := c.HSet(ctx, s.generationsKey(), formatField, "2").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Live(ctx); err == nil || !strings.Contains(err.Error(), `of format "2"`) {
		t.Errorf("Live: %v", err)
	}
	if _, err := s.Write(ctx, []online.Record{rec("v", "e", 1, "")}, online.IfNewer); err == nil || !strings.Contains(err.Error(), `of format "2"`) {
		t.Errorf("Write: %v", err)
	}
	if err := c.HSet(ctx, s.generationsKey(), formatField, format, generationID("v", 1), "other@7").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(ctx, []online.Record{rec("v", "e", 1, "")}, online.IfNewer); !errors.Is(err, errSameKeys) || !strings.Contains(err.Error(), "other@7") {
		t.Errorf("Write of a generation whose short name is taken: %v", err)
	}
}

// TestScriptIsForgotten: a server that was restarted does not know the script.
func TestScriptIsForgotten(t *testing.T) {
	n := testenv.RedisServer(t)
	s := open(t, Options{Addrs: []string{n.Addr}})
	for order := range uint64(3) {
		res, err := s.Write(t.Context(), []online.Record{rec("v", "a", order+1, ""), rec("v", "b", order+1, "")}, online.IfNewer)
		if err != nil || res.Applied != 2 {
			t.Fatalf("%+v, %v", res, err)
		}
		if err := n.Client(t).ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheck(t *testing.T) {
	for policy, want := range map[string]int{"allkeys-lru": 1, "noeviction": 0, "volatile-lru": 1} {
		n := testenv.RedisServer(t, "--maxmemory-policy", policy, "--maxmemory", "100mb")
		warnings, err := open(t, Options{Addrs: []string{n.Addr}}).Check(t.Context())
		if err != nil || len(warnings) != want {
			t.Errorf("%s: %q, %v", policy, warnings, err)
		}
	}
}

// load writes and reads without a pause until it is stopped, each entity by one
// writer with rising orders; whoever reads must find what was last acknowledged, or newer.
type load struct {
	t      *testing.T
	s      *Store
	stop   chan struct{}
	wg     sync.WaitGroup
	done   atomic.Int64
	failed atomic.Int64
}

func startLoad(t *testing.T, s *Store, entities []string, tolerate bool) *load {
	l := &load{t: t, s: s, stop: make(chan struct{})}
	for w := range 4 {
		l.wg.Go(func() {
			for order := uint64(1); ; order++ {
				select {
				case <-l.stop:
					return
				default:
				}
				var records []online.Record
				var keys []online.Key
				for i := w; i < len(entities); i += 4 {
					records = append(records, rec("v", entities[i], order, ""), rec("w", entities[i], order, ""))
					keys = append(keys, records[len(records)-2].Key, records[len(records)-1].Key)
				}
				_, err := s.Write(t.Context(), records, online.IfNewer)
				dst := make([][]byte, len(keys))
				if err == nil {
					err = s.Get(t.Context(), keys, dst)
				}
				if err != nil {
					l.failed.Add(1)
					if !tolerate || !errors.Is(err, online.ErrUnavailable) {
						t.Errorf("order %d: %v", order, err)
						return
					}
					continue
				}
				for i, b := range dst {
					if b == nil || binary.BigEndian.Uint64(b[1:]) != order {
						if !tolerate {
							t.Errorf("%s: %x after order %d was written", keys[i].Entity, b, order)
							return
						}
					}
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}

// until waits until the load has done n more rounds.
func (l *load) until(n int64) {
	l.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for want := l.done.Load() + n; l.done.Load() < want && !l.t.Failed(); {
		if time.Now().After(deadline) {
			l.t.Fatalf("the load stands still after %d rounds and %d failures", l.done.Load(), l.failed.Load())
		}
	}
}

// TestClusterSlotMoves: no call fails while slots move between shards.
func TestClusterSlotMoves(t *testing.T) {
	r := testenv.RedisCluster(t)
	s := open(t, Options{Addrs: r.Addrs(), Mode: Cluster})
	var entities []string
	for i := 0; len(entities) < 40; i++ { // of a few slots only, with several keys each
		e := fmt.Sprint("entity", i)
		key := string(s.appendRecordKey(nil, generationID("v", 1), []byte(e)))
		if slot(key[s.tagStart():s.tagStart()+tagLen])%1000 < 10 {
			entities = append(entities, e)
		}
	}
	slots := map[int]bool{}
	for _, e := range entities {
		key := string(s.appendRecordKey(nil, generationID("v", 1), []byte(e)))
		slots[int(slot(key[s.tagStart():s.tagStart()+tagLen]))] = true
	}
	l := startLoad(t, s, entities, false)
	defer l.end()
	l.until(10)
	moved := 0
	for n := range slots {
		if moved++; moved > 8 {
			break
		}
		r.MoveSlot(t, n, (n/5462+1)%3, func() { l.until(3) })
		l.until(2)
	}
	t.Logf("%d rounds", l.done.Load())
}

// TestSentinelFailsOver: the store goes on with the new master, by itself.
func TestSentinelFailsOver(t *testing.T) {
	r := testenv.RedisSentinel(t)
	s := open(t, Options{Addrs: r.Addrs(), Mode: Sentinel, MasterName: r.MasterName})
	l := startLoad(t, s, []string{"a", "b", "c", "d"}, true)
	defer l.end()
	l.until(20)
	r.Master.Kill(t)
	l.until(20)
	t.Logf("%d rounds, %d failed meanwhile", l.done.Load(), l.failed.Load())
	if l.failed.Load() == 0 {
		t.Log("nothing failed")
	}
}

func benchmark(b *testing.B, payload int) (*Store, []online.Record) {
	n := testenv.RedisServer(b)
	s := open(b, Options{Addrs: []string{n.Addr}})
	records := make([]online.Record, 10_000)
	for i := range records {
		records[i] = rec("v", fmt.Sprint("user", i), 1, strings.Repeat("x", payload))
	}
	if _, err := s.Write(b.Context(), records, online.IfNewer); err != nil {
		b.Fatal(err)
	}
	return s, records
}

func BenchmarkGet(b *testing.B) {
	s, records := benchmark(b, 405)
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				keys, dst := make([]online.Key, n), make([][]byte, n)
				for i := rand.Int(); pb.Next(); i += n {
					for j := range keys {
						keys[j] = records[uint(i+j)%uint(len(records))].Key
					}
					if err := s.Get(b.Context(), keys, dst); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	s, records := benchmark(b, 405)
	set := func(pipe goredis.Pipeliner, r *online.Record) {
		pipe.Set(b.Context(), string(r.Key.Entity), r.Value, 0)
	}
	b.Run("IfNewer", func(b *testing.B) {
		for order := uint64(2); b.Loop(); order++ {
			for i := range records {
				binary.BigEndian.PutUint64(records[i].Value[1:], order)
			}
			if _, err := s.Write(b.Context(), records, online.IfNewer); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("Fill", func(b *testing.B) {
		for generation := 2; b.Loop(); generation++ {
			for i := range records {
				records[i].Key.Generation = generation
			}
			res, err := s.Write(b.Context(), records, online.IfNewer)
			if err != nil || res.Applied != len(records) {
				b.Fatal(res, err)
			}
			b.StopTimer()
			if err := s.Drop(b.Context(), "v", generation); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("PlainSET", func(b *testing.B) {
		for b.Loop() {
			for at := 0; at < len(records); at += 2000 {
				pipe := s.db.Pipeline()
				for i := range records[at : at+2000] {
					set(pipe, &records[at+i])
				}
				if _, err := pipe.Exec(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "records/s")
	})
}

// TestFullWithExpiry: a full Redis refuses records, keeps what it has, and takes them
// once there is room: what was refused is written again and nothing is lost.
func TestFullWithExpiry(t *testing.T) {
	n := testenv.RedisServer(t, "--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
	s := open(t, Options{Addrs: []string{n.Addr}})
	var records []online.Record
	for i := range 6 {
		for j := range 200 {
			r := rec("windows", fmt.Sprint(i, "/", j), 1, strings.Repeat("x", 4<<10))
			r.TTL = time.Hour
			records = append(records, r)
		}
	}
	res, err := s.Write(t.Context(), records, online.IfNewer)
	if !errors.Is(err, online.ErrFull) || !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), n.Addr) {
		t.Fatalf("%+v, %v; want ErrFull with the address", res, err)
	}
	before := present(t, s, records)
	if before < res.Applied || before == len(records) {
		t.Fatalf("%d of %d records are there, %d were applied", before, len(records), res.Applied)
	}
	if err := n.Client(t).ConfigSet(t.Context(), "maxmemory", "64mb").Err(); err != nil {
		t.Fatal(err)
	}
	res, err = s.Write(t.Context(), records, online.IfNewer)
	if err != nil || res.Applied != len(records)-before || res.Stale != before {
		t.Errorf("%+v, %v; want %d applied and %d stale", res, err, len(records)-before, before)
	}
	if now := present(t, s, records); now != len(records) {
		t.Errorf("%d of %d records are there", now, len(records))
	}
}

func present(t *testing.T, s *Store, records []online.Record) (n int) {
	t.Helper()
	keys, dst := make([]online.Key, len(records)), make([][]byte, len(records))
	for i := range records {
		keys[i] = records[i].Key
	}
	if err := s.Get(t.Context(), keys, dst); err != nil {
		t.Fatal(err)
	}
	for _, b := range dst {
		if b != nil {
			n++
		}
	}
	return n
}
