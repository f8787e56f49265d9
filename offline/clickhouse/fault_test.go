package clickhouse

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// proxy passes connections on to a server until it is told to cut them.
type proxy struct {
	listener net.Listener
	to       string
	budget   atomic.Int64 // bytes that still pass from the server to the client

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to}
	p.budget.Store(1 << 62)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

// pass copies both ways; what the server says is counted.
func (p *proxy) pass(c net.Conn) {
	defer c.Close()
	if p.budget.Load() <= 0 {
		return
	}
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns = append(p.conns, c, server)
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, c)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		if left := p.budget.Add(-int64(n)); left < 0 {
			_, _ = c.Write(buf[:max(0, int64(n)+left)])
			return
		}
		if _, e := c.Write(buf[:n]); e != nil || err != nil {
			return
		}
	}
}

// cut ends all connections; away also refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) away(bytes int64) {
	p.budget.Store(bytes)
	if bytes <= 0 {
		p.cut()
	}
}

func (p *proxy) back() { p.budget.Store(1 << 62) }

// TestServerAway: the server goes away at any place of an answer. Nothing is lost or cut
// short silently; everything says which server; when it is back, everything goes on.
func TestServerAway(t *testing.T) {
	p := newProxy(t, testenv.ClickHouse(t).Addr())
	s := open(t, func(o *Options) {
		o.URL = "http://user:hunter2@" + p.listener.Addr().String() + "/forebay_test"
	})
	v := benchView()
	benchAppend(t, s, v, 20_000, false)
	if _, err := s.Refresh(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	unavailable := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, offline.ErrUnavailable) || !strings.Contains(err.Error(), p.listener.Addr().String()) {
			t.Errorf("%s: %v; want ErrUnavailable with the address", what, err)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the password is in %v", what, err)
		}
	}
	// A view of windows over all the inputs.
	windows := *v.View
	windows.Name, windows.TTL, windows.Inputs, windows.Features = "windows", 0, v.View.Features, nil
	for _, in := range windows.Inputs {
		windows.Aggregations = append(windows.Aggregations, registry.Aggregation{Function: "sum", Column: in.Expr, Windows: []registry.Window{"lifetime"}})
		windows.Features = append(windows.Features, registry.Feature{Field: feature.Field{Name: in.Expr + "_sum_lifetime", Type: in.Type}})
	}
	w := registry.ViewGeneration{Project: v.Project, View: &windows, Number: 1}
	if _, err := s.Refresh(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	join := func(v registry.ViewGeneration) (rows int, err error) {
		req := offline.JoinRequest{Spine: spineOf(20_000), Timestamp: "event_timestamp", Roles: []offline.Role{
			{View: v, Keys: []string{"user_id"}, Features: []int{0, 1, 2, 3, 4, 5, 6, 7}}}}
		for j, err := range s.Join(t.Context(), req) {
			if err != nil {
				return rows, err
			}
			rows += j.Spine.Rows
		}
		return rows, nil
	}
	scan := func() (rows int, err error) {
		for b, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
			if err != nil {
				return rows, err
			}
			rows += b.Rows
		}
		return rows, nil
	}
	for _, bytes := range []int64{0, 100, 5_000, 50_000, 200_000} {
		for _, v := range []registry.ViewGeneration{v, w} {
			p.away(bytes)
			if n, err := join(v); err == nil {
				t.Errorf("join of %s, cut after %d bytes: %d rows and no error", v, bytes, n)
			} else {
				unavailable("join", err)
			}
			p.back()
		}
		p.away(bytes)
		if n, err := scan(); err == nil {
			t.Errorf("scan, cut after %d bytes: %d rows and no error", bytes, n)
		} else {
			unavailable("scan", err)
		}
		p.back()
	}
	p.away(0)
	_, err := s.Log(t.Context(), v.Source())
	unavailable("log", err)
	_, err = s.Refresh(t.Context(), v)
	unavailable("refresh", err)
	_, err = s.Append(t.Context(), v.Source(), nil)
	unavailable("append", err)
	unavailable("ping", s.Ping(t.Context()))
	p.back()
	for _, v := range []registry.ViewGeneration{v, w} {
		if n, err := join(v); err != nil || n != 20_000 {
			t.Fatalf("the server is back: %s: %d rows, %v", v, n, err)
		}
	}
	if n, err := scan(); err != nil || n != 20_000 {
		t.Fatalf("the server is back: %d rows, %v", n, err)
	}
}

// TestAppendCut: the connection ends somewhere in a commit. Whatever the caller hears, after
// another attempt at the same offsets the log has each row once.
func TestAppendCut(t *testing.T) {
	p := newProxy(t, testenv.ClickHouse(t).Addr())
	s := open(t, func(o *Options) { o.URL = "http://" + p.listener.Addr().String() + "/forebay_test" })
	v := benchView()
	src := v.Source()
	append1 := func(from int64) error {
		a, err := s.Append(t.Context(), src, nil)
		if err != nil {
			return err
		}
		b := feature.NewBatch(src.Fields(), 10)
		for i := range int64(10) {
			b.Columns[0].AppendBits(uint64(from + i))
			b.Columns[1].AppendBits(7)
			for _, c := range b.Columns[2:] {
				c.AppendNull()
			}
			b.Versions = append(b.Versions, feature.Version{EventTime: from + i, IngestedAt: 1, Minor: from + i})
			b.Rows++
		}
		err = a.Write(t.Context(), b)
		if err == nil {
			err = a.Commit(t.Context(), offline.Origin{Topic: "t", Offsets: map[int32]offline.OffsetRange{0: {From: from, To: from + 10}}})
		}
		p.back()
		return errors.Join(err, a.Abort())
	}
	if err := append1(0); err != nil {
		t.Fatal(err)
	}
	next := int64(10)
	failed := 0
	for bytes := int64(0); bytes < 9_000; bytes += 450 {
		p.away(bytes)
		err := append1(next)
		p.back()
		log, e := s.Log(t.Context(), src)
		if e != nil {
			t.Fatal(e)
		}
		if err == nil && log.Offsets[0] != next+10 {
			t.Fatalf("cut after %d bytes: committed, and the log is at %d", bytes, log.Offsets[0])
		}
		if err != nil {
			failed++
		}
		next = log.Offsets[0]
		if log.Rows != next {
			t.Fatalf("cut after %d bytes: %d rows up to offset %d", bytes, log.Rows, next)
		}
	}
	if failed == 0 {
		t.Fatal("nothing was cut")
	}
	if _, err := s.Refresh(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for b, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range b.Versions {
			if at.Minor != want {
				t.Fatalf("offset %d, want %d", at.Minor, want)
			}
			want++
		}
	}
	if want != next {
		t.Fatalf("%d rows, want %d", want, next)
	}
}

// TestReadersMakeNothing: what only reads makes no table.
func TestReadersMakeNothing(t *testing.T) {
	s := open(t, nil)
	v := benchView()
	if _, err := s.Log(t.Context(), v.Source()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Table(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Refresh(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
		t.Fatal(err)
	}
	var n uint64
	if _, err := s.client.one(t.Context(), "SELECT count() FROM system.tables WHERE database = "+text(s.client.database)+" AND startsWith(name, "+text(s.project)+")", &n); err != nil || n != 0 {
		t.Fatalf("%d tables, %v", n, err)
	}
}

// TestStagingIsDropped: a join leaves no table behind, however it ends.
func TestStagingIsDropped(t *testing.T) {
	s, v := open(t, nil), benchView()
	benchAppend(t, s, v, 1000, false)
	if _, err := s.Refresh(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	role := offline.Role{View: v, Keys: []string{"user_id"}, Features: []int{0}}
	for _, err := range s.Join(t.Context(), offline.JoinRequest{Spine: spineOf(50_000), Memory: 1 << 20, Timestamp: "event_timestamp", Roles: []offline.Role{role, role}}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	var n uint64
	if _, err := s.client.one(t.Context(), "SELECT count() FROM system.tables WHERE name LIKE "+text(s.project+"/tmp/%"), &n); err != nil || n != 0 {
		t.Fatalf("%d tables are left, %v", n, err)
	}
}

// TestSnapshots: every state of a derived table can be joined with, as it was.
func TestSnapshots(t *testing.T) {
	s, v := open(t, nil), benchView()
	var states []offline.TableState
	for range 3 {
		benchAppend(t, s, v, 5000, false)
		st, err := s.Refresh(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, st)
	}
	newest := func(snapshot string) (at int64, err error) {
		role := offline.Role{View: v, Keys: []string{"user_id"}, Features: []int{0}, Snapshot: snapshot}
		for j, err := range s.Join(t.Context(), offline.JoinRequest{Spine: spineOf(benchSpine / 10), Timestamp: "event_timestamp", Roles: []offline.Role{role}}) {
			if err != nil {
				return 0, err
			}
			for _, version := range j.Roles[0].Versions {
				at = max(at, version.IngestedAt)
			}
		}
		return at, nil
	}
	for i, st := range states {
		at, err := newest(st.Snapshot)
		if err != nil || at != st.Appended {
			t.Errorf("state %d: rows up to append %d, want %d (%v)", i, at, st.Appended, err)
		}
		if was, err := s.TableAt(t.Context(), v, st.Snapshot); err != nil || was != st {
			t.Errorf("state %d: %+v, %v; it was %+v", i, was, err, st)
		}
		if err := s.Pin(t.Context(), v, st.Snapshot, "kept"); err != nil {
			t.Error(err)
		}
	}
	if at, err := newest(offline.NoRows); at != 0 || err != nil {
		t.Errorf("before the first: %d, %v", at, err)
	}
	for _, gone := range []string{uuid.NewString() + ".1", "nonsense", strings.TrimSuffix(states[2].Snapshot, "3") + "9"} {
		if _, err := newest(gone); !errors.Is(err, offline.ErrSnapshotGone) {
			t.Errorf("snapshot %s: %v", gone, err)
		}
		if err := s.Pin(t.Context(), v, gone, "kept"); !errors.Is(err, offline.ErrSnapshotGone) {
			t.Errorf("pinning snapshot %s: %v", gone, err)
		}
	}
}

// TestURLs: the protocol is that of the scheme, and passwords stay out of errors.
func TestURLs(t *testing.T) {
	for _, raw := range []string{"clickhouse://h:9000/db", "tcp://u:p@h:9000", "http://h:8123/db", "https://h:8443/db", "https://h:8443/db?secure=true&compress=zstd"} {
		s, err := Open(t.Context(), Options{URL: raw, Project: "p"})
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, raw := range []string{"file:///x", "http://u:hunter2@h:1\x7f/", "clickhouse://u:hunter2@h/db?dial_timeout=x"} {
		if _, err := Open(t.Context(), Options{URL: raw, Project: "p"}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
