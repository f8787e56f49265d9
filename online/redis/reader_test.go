package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
)

// scripted is a server that answers every call of Write with the next of some replies, in pieces of random sizes, and then goes away.
func scripted(rnd *rand.Rand, replies ...string) *goredis.Client {
	return goredis.NewClient(&goredis.Options{Addr: "scripted:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		rnd := rand.New(rand.NewPCG(rnd.Uint64(), 2))
		go func() {
			defer server.Close()
			command := make([]byte, 1<<20)
			for _, r := range replies {
				if _, err := server.Read(command); err != nil {
					return
				}
				for len(r) > 0 {
					n := 1 + rnd.IntN(len(r))
					if _, err := io.WriteString(server, r[:n]); err != nil {
						return
					}
					r = r[n:]
				}
			}
		}()
		return client, nil
	}})
}

// TestReplies: what a reply to an MGET may be, and what it may not, wherever it is cut into pieces.
func TestReplies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	keys := []string{"a", "b", "c"}
	for range 200 {
		long := strings.Repeat("long\r\n$3\r\n", rnd.IntN(1<<uint(rnd.IntN(15))))
		c := scripted(rnd, fmt.Sprintf("*3\r\n$2\r\n\r\n\r\n$-1\r\n$%d\r\n%s\r\n", len(long), long), "*3\r\n$0\r\n\r\n$1\r\nx\r\n$-1\r\n")
		r, dst := newReader(c, &Options{Timeout: time.Minute, PoolSize: 1}), make([][]byte, 3)
		if err := r.mget(t.Context(), keys, dst); err != nil || string(dst[0]) != "\r\n" || dst[1] != nil || string(dst[2]) != long {
			t.Fatalf("%.60q, %v", dst, err)
		}
		first := dst[2]
		dst = make([][]byte, 3)
		if err := r.mget(t.Context(), keys, dst); err != nil || dst[0] == nil || len(dst[0]) != 0 || string(dst[1]) != "x" || dst[2] != nil {
			t.Fatalf("%q, %v", dst, err)
		}
		if string(first) != long {
			t.Fatal("a record changed when others were read")
		}
		if err := r.mget(t.Context(), keys, dst); err == nil {
			t.Fatal("read from a server that is gone")
		}
		r.close()
		_ = c.Close()
	}
	// What the caller has brought is used again where it is enough.
	{
		c := scripted(rnd, "*3\r\n$2\r\nab\r\n$3\r\nabc\r\n$-1\r\n", "*3\r\n$1\r\nx\r\n$5\r\n12345\r\n$4\r\nwxyz\r\n")
		r := newReader(c, &Options{Timeout: time.Minute, PoolSize: 1})
		dst := [][]byte{make([]byte, 0, 2), make([]byte, 3, 4), nil}
		own := [][]byte{dst[0][:2], dst[1][:4]}
		if err := r.mget(t.Context(), keys, dst); err != nil || string(own[0]) != "ab" || string(own[1]) != "abc\x00" || dst[2] != nil {
			t.Errorf("%q, %v", own, err)
		}
		if err := r.mget(t.Context(), keys, dst); err != nil || string(own[0]) != "xb" || string(dst[0]) != "x" || string(own[1]) != "abc\x00" || string(dst[1]) != "12345" || string(dst[2]) != "wxyz" {
			t.Errorf("%q, %q, %v", own, dst, err)
		}
		r.close()
		_ = c.Close()
	}
	for _, raw := range []string{"", "*", "*3\r\n", "*2\r\n$-1\r\n$-1\r\n", "$3\r\nabc\r\n", "*3\r\n$5\r\nab\r\n", "*3\r\n$-1\r\n$-1\r\n:1\r\n", "*-1\r\n", "*3\n$-1\r\n",
		"*3\r\n$-1\r\n$-1\r\n$99999999999999999999\r\n", "*3\r\n$-1\r\n$-1\r\n$-2\r\n", "*3\r\n$-1\r\n$-1\r\n$\r\n", "*" + strings.Repeat("3", maxLine+2)} {
		c := scripted(rnd, raw)
		r := newReader(c, &Options{Timeout: time.Minute, PoolSize: 1})
		if err := r.mget(t.Context(), keys, make([][]byte, 3)); err == nil || errors.Is(err, errReply) {
			t.Errorf("%.60q: %v", raw, err)
		}
		if len(r.idle) != 0 || len(r.turns) != 0 {
			t.Errorf("%.60q: a broken connection is kept", raw)
		}
		_ = c.Close()
	}
	c := scripted(rnd, "-LOADING wait\r\n", "*3\r\n$-1\r\n$-1\r\n$-1\r\n")
	r := newReader(c, &Options{Timeout: time.Minute, PoolSize: 1})
	if err := r.mget(t.Context(), keys, make([][]byte, 3)); !errors.Is(err, errReply) {
		t.Errorf("an error: %v", err)
	}
	if err := r.mget(t.Context(), keys, make([][]byte, 3)); err != nil {
		t.Errorf("the connection is of no use after an error that was read whole: %v", err)
	}
	r.close()
	_ = c.Close()
}

// TestReaderWaits: no more connections than PoolSize, and no longer for one than the context lasts.
func TestReaderWaits(t *testing.T) {
	n := testenv.RedisServer(t)
	s := open(t, Options{Addrs: []string{n.Addr}, PoolSize: 2})
	r := s.readers.get(s.db.(*goredis.Client))
	var taken []*readerConn
	for range 2 {
		c, err := r.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Get(ctx, []online.Key{rec("v", "e", 1, "").Key}, make([][]byte, 1)); !errors.Is(err, online.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for _, c := range taken {
		r.give(c)
	}
	if err := s.Get(t.Context(), []online.Key{rec("v", "e", 1, "").Key}, make([][]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestConnectionsAreKilled: nobody who reads notices that the server ends connections, with a password and a database of its own.
func TestConnectionsAreKilled(t *testing.T) {
	n := testenv.RedisServer(t, "--requirepass", "secret")
	s := open(t, Options{Addrs: []string{n.Addr}, Password: "secret", DB: 3})
	var records []online.Record
	var keys []online.Key
	for i := range 2000 {
		records = append(records, rec("v", fmt.Sprint(i), 1, strings.Repeat("x", i)))
		keys = append(keys, records[i].Key)
	}
	if _, err := s.Write(t.Context(), records, online.IfNewer); err != nil {
		t.Fatal(err)
	}
	ends := make(chan struct{})
	var readers sync.WaitGroup
	var reads [4]int
	for w := range reads {
		readers.Go(func() {
			for n := 1; ; n = 1 + n*7%len(keys) {
				select {
				case <-ends:
					return
				default:
				}
				dst := make([][]byte, n)
				if err := s.Get(t.Context(), keys[:n], dst); err != nil {
					t.Error(err)
					return
				}
				for i, b := range dst {
					if string(b) != string(records[i].Value) {
						t.Errorf("record %d of %d has %d bytes, want %d", i, n, len(b), len(records[i].Value))
						return
					}
				}
				reads[w]++
			}
		})
	}
	killer := goredis.NewClient(&goredis.Options{Addr: n.Addr, Password: "secret"})
	for range 50 {
		if err := killer.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		for range 20 { // so that no read meets more kills than it is tried again
			if err := s.Get(t.Context(), keys[:1], make([][]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(ends)
	readers.Wait()
	if err := killer.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d reads", reads)
}

// entityOn finds an entity whose records are on a node of a Cluster.
func entityOn(t *testing.T, s *Store, node string, not ...string) string {
	t.Helper()
	for i := range 10_000 {
		e := fmt.Sprint("e", i)
		master, err := s.db.(*goredis.ClusterClient).MasterForKey(t.Context(), string(s.appendRecordKey(nil, generationID("v", 1), []byte(e))))
		if err != nil {
			t.Fatal(err)
		}
		if (master.Options().Addr == node) && !slices.Contains(not, e) {
			return e
		}
	}
	t.Fatalf("no entity is on %s", node)
	return ""
}

// TestSlowShard: of the many who read from a shard that does not answer only a few wait for it, and what is on other
// shards is read as before, also by who reads from both.
func TestSlowShard(t *testing.T) {
	r := testenv.RedisCluster(t)
	const pool = 4
	s := open(t, Options{Addrs: r.Addrs(), Mode: Cluster, PoolSize: pool})
	slow, well := entityOn(t, s, r.Nodes[0].Addr), entityOn(t, s, r.Nodes[1].Addr)
	records := []online.Record{rec("v", slow, 1, ""), rec("v", well, 1, "")}
	if _, err := s.Write(t.Context(), records, online.IfNewer); err != nil {
		t.Fatal(err)
	}
	get := func(ctx context.Context, keys ...online.Key) error {
		return s.Get(ctx, keys, make([][]byte, len(keys)))
	}
	for _, r := range records {
		if err := get(t.Context(), r.Key); err != nil {
			t.Fatal(err)
		}
	}
	resume := r.Nodes[0].Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var waiting sync.WaitGroup
	var refused, failed atomic.Int64
	for i := range 200 {
		waiting.Go(func() {
			keys := []online.Key{records[0].Key, records[1].Key}
			err := get(ctx, keys[:1+i%2]...)
			if errors.Is(err, errStuck) && errors.Is(err, online.ErrUnavailable) && strings.Contains(err.Error(), "does not answer") {
				refused.Add(1)
			} else if err != nil {
				failed.Add(1)
			}
		})
		waiting.Go(func() {
			if err := get(ctx, records[1].Key); err != nil {
				t.Errorf("on a shard that answers: %v", err)
			}
		})
	}
	waiting.Wait()
	if refused.Load() < 200-2*pool || refused.Load()+failed.Load() != 200 {
		t.Errorf("%d were refused, %d failed later", refused.Load(), failed.Load())
	}
	resume()
	if err := get(t.Context(), records[0].Key, records[1].Key); err != nil {
		t.Errorf("once it answers again: %v", err)
	}
}

// TestClusterMasterIsReplaced: who has a slot is asked again where its master is gone, though nobody says that it has moved.
func TestClusterMasterIsReplaced(t *testing.T) {
	r := testenv.RedisCluster(t)
	s := open(t, Options{Addrs: r.Addrs(), Mode: Cluster})
	key := rec("v", entityOn(t, s, r.Nodes[0].Addr), 1, "").Key
	if err := s.Get(t.Context(), []online.Key{key}, make([][]byte, 1)); err != nil {
		t.Fatal(err)
	}
	heir := r.Nodes[1].Client(t)
	r.Nodes[0].Kill(t)
	for _, command := range [][]any{{"CLUSTER", "DELSLOTSRANGE", 0, 5460}, {"CLUSTER", "ADDSLOTSRANGE", 0, 5460}, {"CLUSTER", "BUMPEPOCH"}} {
		if err := heir.Do(t.Context(), command...).Err(); err != nil {
			t.Fatalf("%v: %v", command, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // less than the minute after which the client would ask by itself
	defer cancel()
	for {
		asking, end := context.WithTimeout(ctx, 5*time.Second)
		err := s.Get(asking, []online.Key{key}, make([][]byte, 1))
		end()
		if err == nil {
			return
		}
		if ctx.Err() != nil || !errors.Is(err, online.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}
