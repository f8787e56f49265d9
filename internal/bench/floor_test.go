package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/testenv"
)

// What a lookup of 100 entities and 50 features has: keys, and bytes of a record.
const (
	floorKeys   = 100
	floorRecord = 438
)

// floorEnv has the address of Redis and the bytes of an answer, for the process that serves.
const floorEnv = "FOREBAY_BENCH_FLOOR"

// floorMGet are the words of the MGET.
func floorMGet() []string {
	words := []string{"MGET"}
	for i := range floorKeys {
		words = append(words, fmt.Sprintf("floor:%06d", i))
	}
	return words
}

// BenchmarkFloor is the least that answering lookups over HTTP can take: for each request a server, which is a process of its
// own, sends Redis an MGET that is ready, takes the reply unread, and sends an answer that is ready, of as many
// bytes as MessagePack has with statuses and instants, and without.
func BenchmarkFloor(b *testing.B) {
	for _, size := range []int{140 << 10, 46 << 10} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) { floor(b, size) })
	}
}

func floor(b *testing.B, size int) {
	redis := Redis{Addr: testenv.RedisServer(b).Addr}
	fill := []string{"MSET"}
	for _, key := range floorMGet()[1:] {
		fill = append(fill, key, strings.Repeat("x", floorRecord))
	}
	writer, err := DialRedis(b.Context(), redis, [][]byte{Command(fill...)}, 1)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := writer.Do(0); err != nil {
		b.Fatal(err)
	}
	load, err := DialClosed(b.Context(), startFloor(b, redis.Addr, size), []Request{NewRequest("floor", "/", []byte("."))}, 16)
	if err != nil {
		b.Fatal(err)
	}
	args := append([]string{"-c", "16", "-n", "50000"}, floorMGet()...)
	var rounds []Round
	for b.Loop() {
		rate, err := load.Run(b.Context(), time.Second)
		if err != nil {
			b.Fatal(err)
		}
		raw, err := redis.Benchmark(b.Context(), args...)
		if err != nil {
			b.Fatal(err)
		}
		if raw == 0 {
			b.Skip("there is no redis-benchmark")
		}
		rounds = append(rounds, Round{rate, raw})
	}
	s := SharesOf(rounds)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(s.Median*s.Raw, "requests/s")
	b.ReportMetric(s.Raw, "MGET/s")
	b.ReportMetric(100*s.Median, "%")
	if err := writer.Close(); err != nil {
		b.Error(err)
	}
	if err := load.Close(); err != nil {
		b.Error(err)
	}
}

// startFloor starts the server and returns its address.
func startFloor(b *testing.B, redis string, size int) string {
	server := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^TestFloorServer$") //nolint:gosec // this program
	server.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", floorEnv, redis, size))
	said, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = server.Process.Kill() // nothing is lost
		_ = server.Wait()
	})
	addr, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// TestFloorServer is the server of BenchmarkFloor.
func TestFloorServer(t *testing.T) {
	var redis string
	var size int
	if _, err := fmt.Sscan(os.Getenv(floorEnv), &redis, &size); err != nil {
		t.Skip("it is no test")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.Addr())
	answer := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), make([]byte, size)...)
	for {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		store, err := net.Dial("tcp", redis)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			request, mget := make([]byte, 64<<10), Command(floorMGet()...)
			reply := make([]byte, len(fmt.Sprintf("*%d\r\n", floorKeys))+floorKeys*(len(fmt.Sprintf("$%d\r\n\r\n", floorRecord))+floorRecord))
			for {
				if _, err := conn.Read(request); err != nil { // it comes in one piece
					return
				}
				if _, err := store.Write(mget); err != nil {
					return
				}
				if _, err := io.ReadFull(store, reply); err != nil {
					return
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}
