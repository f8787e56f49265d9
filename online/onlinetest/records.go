package onlinetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/forebay/forebay/online"
)

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
