package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
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
