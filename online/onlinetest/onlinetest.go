// Package onlinetest is the conformance suite that every online.Store passes.
package onlinetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebay/forebay/online"
)

// Backend is one implementation under test.
type Backend struct {
	// Open opens a store for a project; the test closes it.
	Open func(t testing.TB, project string) online.Store
	// Shared says that a project opened twice gives two stores over the same data.
	Shared bool
	// Break makes every store of the backend unreachable until mend is called; nil
	// where that cannot be.
	Break func(t testing.TB) (mend func())
	// Address is what the message of an unreachable store names.
	Address string
	// Slow is the time after which a broken store must have answered. Default 10s.
	Slow time.Duration
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	if b.Slow == 0 {
		b.Slow = 10 * time.Second
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Empty", testEmpty},
		{"GetKeepsOrder", testGetKeepsOrder},
		{"IfNewer", testIfNewer},
		{"ShortOrder", testShortOrder},
		{"Always", testAlways},
		{"SameKeyTwice", testSameKeyTwice},
		{"BinaryKeys", testBinaryKeys},
		{"BigBatch", testBigBatch},
		{"BigRecord", testBigRecord},
		{"Buffers", testBuffers},
		{"NotARecord", testNotARecord},
		{"ConcurrentWriters", testConcurrentWriters},
		{"Expiry", testExpiry},
		{"ExpiryOfStale", testExpiryOfStale},
		{"ExpiryRefused", testExpiryRefused},
		{"Resumes", testResumes},
		{"Live", testLive},
		{"Drop", testDrop},
		{"Usage", testUsage},
		{"Projects", testProjects},
		{"Random", testRandom},
		{"Context", testContext},
		{"Closed", testClosed},
		{"Unavailable", testUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			test.run(t, &suite{Backend: b, ctx: ctx, project: fmt.Sprintf("t%x", rand.Uint64())})
		})
	}
}

type suite struct {
	Backend
	ctx     context.Context
	project string
}

func (s *suite) open(t *testing.T) online.Store {
	t.Helper()
	store := s.Open(t, s.project)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return store
}

func key(view string, generation int, entity string) online.Key {
	return online.Key{View: view, Generation: generation, Entity: []byte(entity)}
}

// record makes a record of an order: the bytes of order are the last of its 32.
func record(k online.Key, order uint64, payload string) online.Record {
	v := make([]byte, online.OrderStart+online.OrderLen, online.OrderStart+online.OrderLen+len(payload))
	v[0] = 1
	binary.BigEndian.PutUint64(v[len(v)-8:], order)
	return online.Record{Key: k, Value: append(v, payload...)}
}

func write(t *testing.T, s *suite, store online.Store, mode online.WriteMode, records ...online.Record) online.WriteResult {
	t.Helper()
	res, err := store.Write(s.ctx, records, mode)
	if err != nil {
		t.Fatalf("Write: %v", err)
	}
	if res.Applied+res.Stale != len(records) || res.Applied < 0 || res.Stale < 0 {
		t.Fatalf("Write of %d records: %+v", len(records), res)
	}
	return res
}

func get(t *testing.T, s *suite, store online.Store, keys ...online.Key) [][]byte {
	t.Helper()
	dst := make([][]byte, len(keys))
	for i := range dst {
		dst[i] = []byte("stale")
	}
	if err := store.Get(s.ctx, keys, dst); err != nil {
		t.Fatalf("Get: %v", err)
	}
	return dst
}

func check(t *testing.T, s *suite, store online.Store, k online.Key, want []byte) {
	t.Helper()
	got := get(t, s, store, k)[0]
	if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		t.Fatalf("record of %s@%d %.40q: %.80q, want %.80q", k.View, k.Generation, k.Entity, got, want)
	}
}

func testEmpty(t *testing.T, s *suite) {
	store := s.open(t)
	get(t, s, store)
	write(t, s, store, online.IfNewer)
	write(t, s, store, online.Always)
	check(t, s, store, key("v", 1, "e"), nil)
	if err := store.SetResumes(s.ctx, nil); err != nil {
		t.Error(err)
	}
	if live, err := store.Live(s.ctx); err != nil || len(live) != 0 {
		t.Errorf("Live: %v, %v", live, err)
	}
	if points, err := store.Resumes(s.ctx, "v", 1); err != nil || len(points) != 0 {
		t.Errorf("Resumes: %v, %v", points, err)
	}
	if n, _, err := store.Usage(s.ctx, "v", 1); err != nil || n != 0 {
		t.Errorf("Usage: %d records, %v", n, err)
	}
	if err := store.Drop(s.ctx, "v", 1); err != nil {
		t.Error(err)
	}
	if err := store.Ping(s.ctx); err != nil {
		t.Error(err)
	}
}

func testGetKeepsOrder(t *testing.T, s *suite) {
	store := s.open(t)
	var keys []online.Key
	want := map[string]string{}
	for i := range 500 {
		k := key([]string{"a", "b"}[i%2], 1+i%3, fmt.Sprint("e", i))
		keys = append(keys, k)
		if i%5 != 0 { // others stay absent
			r := record(k, 1, fmt.Sprint("value of ", i))
			write(t, s, store, online.IfNewer, r)
			want[string(k.Entity)] = string(r.Value)
		}
	}
	keys = append(keys, keys[:50]...) // and some are asked for twice
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for i, got := range get(t, s, store, keys...) {
		if w, ok := want[string(keys[i].Entity)]; string(got) != w || (got != nil) != ok {
			t.Fatalf("key %d, %q: %q, want %q", i, keys[i].Entity, got, w)
		}
	}
}

func testIfNewer(t *testing.T, s *suite) {
	store := s.open(t)
	// At every place of the order, for bytes that compare differently as signed
	// numbers, as text of a locale, or as C strings.
	pairs := [][2]byte{{0x00, 0x01}, {0x7f, 0x80}, {0x00, 0xff}, {'B', 'a'}, {'a', 'b'}, {'_', 'a'}, {0xfe, 0xff}, {'-', '.'}}
	for place := range online.OrderLen {
		for n, p := range pairs {
			k := key("v", 1, fmt.Sprint(place, "/", n))
			low, high := record(k, 0, "low"), record(k, 0, "high")
			low.Value[online.OrderStart+place], high.Value[online.OrderStart+place] = p[0], p[1]
			for i := place + 1; i < online.OrderLen; i++ { // what follows must not matter
				low.Value[online.OrderStart+i], high.Value[online.OrderStart+i] = 0xff, 0
			}
			same := online.Record{Key: k, Value: append(bytes.Clone(low.Value), "again"...)}
			for i, step := range []struct {
				r       online.Record
				applied int
				want    []byte
			}{{low, 1, low.Value}, {same, 0, low.Value}, {high, 1, high.Value}, {low, 0, high.Value}, {high, 0, high.Value}} {
				if res := write(t, s, store, online.IfNewer, step.r); res.Applied != step.applied {
					t.Fatalf("byte %d of the order, %#x: step %d: %+v, want %d applied", place, p, i, res, step.applied)
				}
				check(t, s, store, k, step.want)
			}
		}
	}
	// The first byte, the kind, is not part of the order.
	k := key("v", 1, "kind")
	r := record(k, 5, "")
	r.Value[0] = 200
	write(t, s, store, online.IfNewer, r)
	if res := write(t, s, store, online.IfNewer, record(k, 6, "")); res.Applied != 1 {
		t.Errorf("a newer record of another kind: %+v", res)
	}
}

// testShortOrder: the records of kinds other than 1 are ordered by 16 bytes, so that of
// two writers that go on from the same record one is refused, whatever they write.
func testShortOrder(t *testing.T, s *suite) {
	store := s.open(t)
	k := key("v", 1, "e")
	short := func(order byte, rest string) online.Record {
		r := online.Record{Key: k, Value: append([]byte{2}, bytes.Repeat([]byte{0x80}, online.ShortOrderLen)...)}
		r.Value[online.ShortOrderLen] = order
		r.Value = append(r.Value, rest...)
		return r
	}
	for i, step := range []struct {
		r       online.Record
		applied int
	}{
		{short(1, ""), 1},
		{short(2, "first"), 1},
		{short(2, "second, and greater as bytes are"), 0},
		{short(2, "\xff"), 0},
		{short(1, "\xff"), 0},
		{short(3, ""), 1},
		{short(3, "a longer one"), 0},
		{short(200, "last"), 1},
	} {
		before := get(t, s, store, k)[0]
		if res := write(t, s, store, online.IfNewer, step.r); res.Applied != step.applied {
			t.Fatalf("step %d: %+v, want %d applied", i, res, step.applied)
		}
		if step.applied == 1 {
			before = step.r.Value
		}
		check(t, s, store, k, before)
	}
	if _, err := store.Write(s.ctx, []online.Record{{Key: k, Value: short(201, "").Value[:online.ShortOrderLen]}}, online.IfNewer); !errors.Is(err, online.ErrRecord) {
		t.Errorf("a record without its whole order: %v, want ErrRecord", err)
	}
	// Many go on from the same record at the same time, each until it was its turn.
	const writers, turns = 8, 20
	var wg sync.WaitGroup
	failed := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			for range turns {
				for {
					dst := [][]byte{nil}
					if err := store.Get(s.ctx, []online.Key{key("v", 1, "turns")}, dst); err != nil {
						failed <- err
						return
					}
					n := byte(0)
					if dst[0] != nil {
						n = dst[0][online.ShortOrderLen]
					}
					r := short(n+1, fmt.Sprint(w))
					r.Key = key("v", 1, "turns")
					res, err := store.Write(s.ctx, []online.Record{r}, online.IfNewer)
					if err != nil {
						failed <- err
						return
					}
					if res.Applied == 1 {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if last := get(t, s, store, key("v", 1, "turns"))[0]; last[online.ShortOrderLen] != writers*turns {
		t.Errorf("%d turns, want %d: some were lost", last[online.ShortOrderLen], writers*turns)
	}
}

func testAlways(t *testing.T, s *suite) {
	store := s.open(t)
	k := key("v", 1, "e")
	write(t, s, store, online.IfNewer, record(k, 9, "new"))
	old := record(k, 3, "old")
	if res := write(t, s, store, online.Always, old); res.Applied != 1 {
		t.Errorf("%+v", res)
	}
	check(t, s, store, k, old.Value)
	if res := write(t, s, store, online.IfNewer, record(k, 4, "newer")); res.Applied != 1 {
		t.Errorf("after an overwrite: %+v", res)
	}
}

func testSameKeyTwice(t *testing.T, s *suite) {
	store := s.open(t)
	for _, mode := range []online.WriteMode{online.IfNewer, online.Always} {
		for name, orders := range map[string][]uint64{"rising": {1, 2, 3}, "falling": {3, 2, 1}, "equal": {3, 3, 3}, "mixed": {2, 3, 1}} {
			k := key("v", 1, fmt.Sprint(name, mode))
			var records []online.Record
			for _, o := range orders {
				records = append(records, record(k, o, fmt.Sprint("o", o)))
			}
			if res := write(t, s, store, mode, records...); res.Applied < 1 {
				t.Errorf("%s: %+v", name, res)
			}
			check(t, s, store, k, record(k, 3, "o3").Value)
		}
	}
}

func testBinaryKeys(t *testing.T, s *suite) {
	store := s.open(t)
	entities := []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\xff", "{", "}", "{}", "}{", "{a}", "{a}b", "a}", "{{a}}", "*", "?", "[a-z]", "\\", "\r\n",
		"\r\n$5\r\n", " ", "a", "a\x00", "ab", ":", "a:b", "/", "@", "1", "\u00e9", "e\u0301", "\x80\x00\x00\x00\x00\x00}\x7b", strings.Repeat("k", 100_000)}
	views := []string{"a", "ab", "a@1", "a{b}", "a*", "ünïcode", "v_1"}
	var records []online.Record
	var keys []online.Key
	for _, v := range views {
		for _, g := range []int{1, 2, 11, 256} {
			for _, e := range entities {
				k := key(v, g, e)
				keys = append(keys, k)
				records = append(records, record(k, 7, fmt.Sprintf("%s %d %.10q %d", v, g, e, len(e))))
			}
		}
	}
	if res := write(t, s, store, online.IfNewer, records...); res.Applied != len(records) {
		t.Fatalf("%+v of %d: two keys are one", res, len(records))
	}
	for i, got := range get(t, s, store, keys...) {
		if !bytes.Equal(got, records[i].Value) {
			t.Fatalf("%s@%d %.40q: %q, want %q", keys[i].View, keys[i].Generation, keys[i].Entity, got, records[i].Value)
		}
	}
}

func testBigBatch(t *testing.T, s *suite) {
	store := s.open(t)
	const n = 20_000
	records := make([]online.Record, n)
	keys := make([]online.Key, n)
	for i := range records {
		keys[i] = key("v", 1, fmt.Sprint("entity ", i))
		records[i] = record(keys[i], uint64(i), strings.Repeat(string(rune('a'+i%26)), i%700))
	}
	if res := write(t, s, store, online.IfNewer, records...); res.Applied != n {
		t.Fatalf("%+v", res)
	}
	if res := write(t, s, store, online.IfNewer, records...); res.Stale != n {
		t.Fatalf("again: %+v", res)
	}
	for i, got := range get(t, s, store, keys...) {
		if !bytes.Equal(got, records[i].Value) {
			t.Fatalf("record %d: %d bytes, want %d", i, len(got), len(records[i].Value))
		}
	}
}

func testBigRecord(t *testing.T, s *suite) {
	store := s.open(t)
	var keys []online.Key
	var records []online.Record
	for i := range 5 {
		keys = append(keys, key("v", 1, fmt.Sprint(i)))
		records = append(records, record(keys[i], 1, strings.Repeat(fmt.Sprint(i), 3<<20)))
	}
	write(t, s, store, online.IfNewer, records...)
	for i, got := range get(t, s, store, keys...) {
		if !bytes.Equal(got, records[i].Value) {
			t.Fatalf("record %d: %d bytes, want %d", i, len(got), len(records[i].Value))
		}
	}
}

func testBuffers(t *testing.T, s *suite) {
	store := s.open(t)
	k := key("v", 1, "entity")
	r := record(k, 1, "payload")
	want := bytes.Clone(r.Value)
	write(t, s, store, online.IfNewer, r)
	for i := range r.Value {
		r.Value[i] = 0xee
	}
	first := get(t, s, store, k, k)
	if len(append(first[0], "more"...)) == 0 || !bytes.Equal(first[1], want) {
		t.Fatal("two records share their room")
	}
	for i := range first[1] {
		first[1][i] = 0xdd
	}
	if !bytes.Equal(first[0], want) {
		t.Fatalf("two records share their bytes: %q", first[0])
	}
	check(t, s, store, k, want)
}

func testNotARecord(t *testing.T, s *suite) {
	store := s.open(t)
	good := record(key("v", 1, "good"), 1, "")
	for _, value := range [][]byte{nil, {1}, make([]byte, online.OrderStart+online.OrderLen-1)} {
		for _, mode := range []online.WriteMode{online.IfNewer, online.Always} {
			_, err := store.Write(s.ctx, []online.Record{good, {Key: key("v", 1, "bad"), Value: value}}, mode)
			if !errors.Is(err, online.ErrRecord) {
				t.Errorf("%d bytes: %v, want ErrRecord", len(value), err)
			}
		}
	}
	check(t, s, store, good.Key, nil)
}

// testConcurrentWriters lets many writers race for few keys: of each key the
// greatest order is there in the end, and every order is applied once at most.
func testConcurrentWriters(t *testing.T, s *suite) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stores := []online.Store{s.open(t)}
	if s.Shared {
		stores = append(stores, s.open(t))
	}
	const writers, rounds, batch, entities = 12, 20, 30, 25
	type outcome struct {
		applied int
		newest  [entities]uint64
	}
	outcomes := make([]outcome, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for range rounds {
				var records []online.Record
				for range batch {
					e, order := rnd.IntN(entities), rnd.Uint64()>>(8*rnd.IntN(8))|1
					records = append(records, record(key("v", 1, fmt.Sprint(e)), order, fmt.Sprint("order ", order)))
					outcomes[w].newest[e] = max(outcomes[w].newest[e], order)
				}
				res, err := stores[w%len(stores)].Write(s.ctx, records, online.IfNewer)
				if err != nil || res.Applied+res.Stale != batch {
					t.Errorf("Write: %+v, %v", res, err)
					return
				}
				outcomes[w].applied += res.Applied
			}
		})
	}
	wg.Wait()
	for e := range entities {
		var newest uint64
		for _, o := range outcomes {
			newest = max(newest, o.newest[e])
		}
		k := key("v", 1, fmt.Sprint(e))
		check(t, s, stores[0], k, record(k, newest, fmt.Sprint("order ", newest)).Value)
	}
}

func sortResumes(points []online.Resume) []online.Resume {
	slices.SortFunc(points, func(a, b online.Resume) int { return strings.Compare(a.Input, b.Input) })
	return points
}

func checkResumes(t *testing.T, s *suite, store online.Store, view string, generation int, want ...online.Resume) {
	t.Helper()
	got, err := store.Resumes(s.ctx, view, generation)
	if err != nil || !slices.Equal(sortResumes(got), sortResumes(want)) {
		t.Fatalf("resume points of %s@%d: %v, %v; want %v", view, generation, got, err, want)
	}
}

func testResumes(t *testing.T, s *suite) {
	store := s.open(t)
	point := func(view string, generation int, input, position string) online.Resume {
		return online.Resume{View: view, Generation: generation, Input: input, Position: position}
	}
	a, b := point("v", 1, "topic/0", "17"), point("v", 1, "topic/1", "")
	c, d := point("v", 2, "topic/0", "1"), point("v2", 1, "offline", "snapshot \x00\xff{}")
	if err := store.SetResumes(s.ctx, []online.Resume{a, b, c, d}); err != nil {
		t.Fatal(err)
	}
	checkResumes(t, s, store, "v", 1, a, b)
	checkResumes(t, s, store, "v", 2, c)
	checkResumes(t, s, store, "v2", 1, d)
	a.Position = "18"
	if err := store.SetResumes(s.ctx, []online.Resume{a}); err != nil {
		t.Fatal(err)
	}
	checkResumes(t, s, store, "v", 1, a, b)
	if s.Shared {
		checkResumes(t, s, s.open(t), "v", 1, a, b)
	}
}

func testLive(t *testing.T, s *suite) {
	store := s.open(t)
	for _, set := range []struct {
		view       string
		generation int
	}{{"v", 1}, {"w{}", 300}, {"v", 2}, {"v", 1}, {"", 5}} {
		if err := store.SetLive(s.ctx, set.view, set.generation); err != nil {
			t.Fatal(err)
		}
		live, err := store.Live(s.ctx)
		if err != nil || live[set.view] != set.generation {
			t.Fatalf("Live: %v, %v; want %s@%d", live, err, set.view, set.generation)
		}
	}
	live, err := store.Live(s.ctx)
	if err != nil || len(live) != 3 || live["w{}"] != 300 {
		t.Errorf("Live: %v, %v", live, err)
	}
	if s.Shared {
		if again, err := s.open(t).Live(s.ctx); err != nil || again["v"] != 1 {
			t.Errorf("Live of another store: %v, %v", again, err)
		}
	}
}

func testDrop(t *testing.T, s *suite) {
	store := s.open(t)
	// Neighbours whose names a pattern or a prefix could take for the dropped one.
	const view, generation = "v*", 1
	others := []online.Key{key(view, 11, "e"), key(view, 2, "e"), key("v", 1, "e"), key("vv", 1, "e"), key("v*1", 1, "e"), key("v*", 257, "e")}
	var records []online.Record
	for i := range 3000 {
		records = append(records, record(key(view, generation, fmt.Sprint(i, "{}")), 1, "dropped"))
	}
	for _, k := range others {
		records = append(records, record(k, 1, "kept"))
	}
	write(t, s, store, online.IfNewer, records...)
	kept := online.Resume{View: view, Generation: 11, Input: "offline", Position: "1"}
	if err := store.SetResumes(s.ctx, []online.Resume{kept, {View: view, Generation: generation, Input: "offline", Position: "1"}}); err != nil {
		t.Fatal(err)
	}
	if err := store.SetLive(s.ctx, view, generation); err != nil {
		t.Fatal(err)
	}
	if err := store.Drop(s.ctx, view, generation); err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		want := r.Value
		if i < 3000 {
			want = nil
		}
		if i%100 == 0 || i >= 3000 {
			check(t, s, store, r.Key, want)
		}
	}
	checkResumes(t, s, store, view, generation)
	checkResumes(t, s, store, view, 11, kept)
	if live, err := store.Live(s.ctx); err != nil || live[view] != generation {
		t.Errorf("Live after a Drop: %v, %v", live, err)
	}
	// A dropped generation can be filled again, from the beginning.
	if res := write(t, s, store, online.IfNewer, records[0]); res.Applied != 1 {
		t.Errorf("Write after a Drop: %+v", res)
	}
}

func testUsage(t *testing.T, s *suite) {
	store := s.open(t)
	var records []online.Record
	for i := range 2500 {
		records = append(records, record(key("v", 1, fmt.Sprint(i)), 1, strings.Repeat("x", 100)))
	}
	write(t, s, store, online.IfNewer, append(records, record(key("v", 2, "e"), 1, ""))...)
	n, size, err := store.Usage(s.ctx, "v", 1)
	if err != nil || n < 2000 || n > 3000 || (size != 0 && (size < 133*2000 || size > 500*3000)) {
		t.Errorf("Usage: %d records, %d bytes, %v", n, size, err)
	}
}

// testProjects: stores of two projects do not see each other.
func testProjects(t *testing.T, s *suite) {
	store := s.open(t)
	k := key("v", 1, "e")
	write(t, s, store, online.IfNewer, record(k, 1, "mine"))
	if err := store.SetLive(s.ctx, "v", 1); err != nil {
		t.Fatal(err)
	}
	project := s.project
	for _, name := range []string{project + "2", project[:len(project)-1]} {
		s.project = name
		other := s.open(t)
		check(t, s, other, k, nil)
		if live, err := other.Live(s.ctx); err != nil || len(live) != 0 {
			t.Errorf("Live of another project: %v, %v", live, err)
		}
		if err := other.Drop(s.ctx, "v", 1); err != nil {
			t.Error(err)
		}
	}
	check(t, s, store, k, record(k, 1, "mine").Value)
}

// testRandom compares a store with a map, over random operations.
func testRandom(t *testing.T, s *suite) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	store := s.open(t)
	model := map[string][]byte{}
	name := func(k online.Key) string { return fmt.Sprintf("%s@%d/%s", k.View, k.Generation, k.Entity) }
	randomKey := func() online.Key {
		return key([]string{"v", "w"}[rnd.IntN(2)], 1+rnd.IntN(2), []string{"", "}", "a", "b\x00", "c"}[rnd.IntN(5)])
	}
	for range 400 {
		switch op := rnd.IntN(20); {
		case op == 0:
			k := randomKey()
			if err := store.Drop(s.ctx, k.View, k.Generation); err != nil {
				t.Fatal(err)
			}
			for n := range model {
				if strings.HasPrefix(n, fmt.Sprintf("%s@%d/", k.View, k.Generation)) {
					delete(model, n)
				}
			}
		case op < 12:
			mode := online.IfNewer
			if rnd.IntN(4) == 0 {
				mode = online.Always
			}
			batch := map[string]online.Record{} // of each key the newest
			var records []online.Record
			for range rnd.IntN(8) {
				order := uint64(rnd.IntN(50))
				r := record(randomKey(), order, fmt.Sprint("order ", order))
				records = append(records, r)
				if old, ok := batch[name(r.Key)]; !ok || online.Newer(r.Value, old.Value) {
					batch[name(r.Key)] = r
				}
			}
			write(t, s, store, mode, records...)
			for n, r := range batch {
				if mode == online.Always || online.Newer(r.Value, model[n]) {
					model[n] = r.Value
				}
			}
		default:
			var keys []online.Key
			for range rnd.IntN(10) {
				keys = append(keys, randomKey())
			}
			for i, got := range get(t, s, store, keys...) {
				if want := model[name(keys[i])]; !bytes.Equal(got, want) || (got == nil) != (want == nil) {
					t.Fatalf("%s: %q, want %q", name(keys[i]), got, want)
				}
			}
		}
	}
}

// calls are all operations of a store that reach for its data.
func calls(store online.Store) map[string]func(context.Context) error {
	k := key("v", 1, "e")
	return map[string]func(context.Context) error{
		"Get": func(ctx context.Context) error { return store.Get(ctx, []online.Key{k}, make([][]byte, 1)) },
		"Write": func(ctx context.Context) error {
			_, err := store.Write(ctx, []online.Record{record(k, 1, "")}, online.IfNewer)
			return err
		},
		"Overwrite": func(ctx context.Context) error {
			_, err := store.Write(ctx, []online.Record{record(k, 1, "")}, online.Always)
			return err
		},
		"Resumes": func(ctx context.Context) error { _, err := store.Resumes(ctx, "v", 1); return err },
		"SetResumes": func(ctx context.Context) error {
			return store.SetResumes(ctx, []online.Resume{{View: "v", Generation: 1, Input: "i", Position: "p"}})
		},
		"Live":    func(ctx context.Context) error { _, err := store.Live(ctx); return err },
		"SetLive": func(ctx context.Context) error { return store.SetLive(ctx, "v", 1) },
		"Drop":    func(ctx context.Context) error { return store.Drop(ctx, "v", 1) },
		"Usage":   func(ctx context.Context) error { _, _, err := store.Usage(ctx, "v", 1); return err },
		"Ping":    store.Ping,
	}
}

func testContext(t *testing.T, s *suite) {
	store := s.open(t)
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	late, cancel := context.WithDeadline(s.ctx, time.Now().Add(-time.Second))
	defer cancel()
	for name, call := range calls(store) {
		if err := call(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, online.ErrUnavailable) {
			t.Errorf("%s after its deadline: %v", name, err)
		}
		if err := call(s.ctx); err != nil {
			t.Errorf("%s after these: %v", name, err)
		}
	}
}

func testClosed(t *testing.T, s *suite) {
	store := s.open(t)
	k := key("v", 1, "e")
	write(t, s, store, online.IfNewer, record(k, 1, ""))
	// Close in the middle of everything: each call succeeds or says that the store is closed.
	var wg sync.WaitGroup
	started := make(chan struct{}, 100)
	for range 4 {
		for name, call := range calls(store) {
			wg.Go(func() {
				started <- struct{}{}
				for range 1000 {
					err := call(s.ctx)
					if errors.Is(err, online.ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("%s while the store is closed: %v", name, err)
						return
					}
				}
			})
		}
	}
	for range 10 {
		<-started
	}
	for range 2 {
		if err := store.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	wg.Wait()
	for name, call := range calls(store) {
		if err := call(s.ctx); !errors.Is(err, online.ErrClosed) {
			t.Errorf("%s of a closed store: %v", name, err)
		}
	}
}

func testUnavailable(t *testing.T, s *suite) {
	if s.Break == nil {
		t.Skip("this store cannot be out of reach")
	}
	store := s.open(t)
	write(t, s, store, online.IfNewer, record(key("v", 1, "e"), 1, ""))
	mend := s.Break(t)
	for name, call := range calls(store) {
		ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
		start := time.Now()
		err := call(ctx)
		if !errors.Is(err, online.ErrUnavailable) {
			t.Errorf("%s of a store out of reach: %v", name, err)
		} else if !strings.Contains(err.Error(), s.Address) {
			t.Errorf("%s: %q does not name %s", name, err, s.Address)
		}
		if took := time.Since(start); took > s.Slow {
			t.Errorf("%s of a store out of reach took %v with 300ms to go", name, took)
		}
		cancel()
	}
	mend()
	for ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second); ; {
		err := store.Ping(ctx)
		if err == nil {
			cancel()
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("Ping, after the store is back: %v", err)
		}
	}
	for name, call := range calls(store) {
		if err := call(s.ctx); err != nil {
			t.Errorf("%s, after the store is back: %v", name, err)
		}
	}
}
