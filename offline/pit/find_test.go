package pit

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"testing"

	"github.com/forebay/forebay/registry/feature"
)

// seed is FOREBAY_SEED, or a new one; every property test prints it on failure.
func seed(t *testing.T) uint64 {
	s := rand.Uint64()
	if v := os.Getenv("FOREBAY_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("run again with FOREBAY_SEED=%d", s)
		}
	})
	return s
}

type row struct {
	key []feature.Value
	v   feature.Version
}

func less(a, b []feature.Value) int {
	for i := range a {
		switch a[i].Kind() {
		case feature.String, feature.Bytes:
			if a[i].Str() != b[i].Str() {
				if a[i].Str() < b[i].Str() {
					return -1
				}
				return 1
			}
		default:
			if a[i].Int64() != b[i].Int64() {
				if a[i].Int64() < b[i].Int64() {
					return -1
				}
				return 1
			}
		}
	}
	return 0
}

// oracle looks at every row for every row of the spine.
func oracle(rows []row, key []feature.Value, t, knownAt int64) (best feature.Version, ok bool) {
	for _, r := range rows {
		if less(r.key, key) != 0 || r.v.EventTime > t || r.v.IngestedAt > knownAt {
			continue
		}
		if !ok || r.v.Compare(best) > 0 {
			best, ok = r.v, true
		}
	}
	return best, ok
}

// blocks is a Cursor over rows, in blocks of random sizes, some rows that may be left out left out.
type blocks struct {
	types []feature.Type
	rows  []row
	rng   *rand.Rand
	block Block
	start int // of the block in rows
	next  int
}

func columns(types []feature.Type, keys [][]feature.Value) []*feature.Column {
	cols := make([]*feature.Column, len(types))
	for j, t := range types {
		cols[j] = feature.NewColumn("k", t, len(keys))
		for _, k := range keys {
			cols[j].Append(k[j])
		}
	}
	return cols
}

func (c *blocks) Next(keys *Keys, from int) (*Block, error) {
	for c.rng.IntN(2) == 0 && c.next < len(c.rows) {
		k := NewKeys(c.types)
		k.AppendRow(columns(c.types, [][]feature.Value{c.rows[c.next].key}), 0)
		if k.Compare(0, keys, from) >= 0 {
			break
		}
		c.next++
	}
	if c.next == len(c.rows) {
		return nil, io.EOF
	}
	n := min(1+c.rng.IntN(6), len(c.rows)-c.next)
	c.start = c.next
	c.next += n
	c.block = Block{Keys: NewKeys(c.types)}
	var ks [][]feature.Value
	for _, r := range c.rows[c.start:c.next] {
		ks = append(ks, r.key)
		c.block.Times = append(c.block.Times, r.v.EventTime)
		c.block.Ingested = append(c.block.Ingested, r.v.IngestedAt)
	}
	c.block.Keys.AppendRows(columns(c.types, ks), 0, n)
	return &c.block, nil
}

var keyTypes = [][]feature.Type{
	{feature.TypeInt64},
	{feature.TypeBool},
	{feature.TypeTimestamp},
	{feature.TypeString},
	{feature.TypeBytes},
	{feature.TypeString, feature.TypeInt64},
	{feature.TypeInt64, feature.TypeString, feature.TypeBool},
	{feature.TypeString, feature.TypeString},
	{},
}

func randomKey(rng *rand.Rand, types []feature.Type) []feature.Value {
	k := make([]feature.Value, len(types))
	words := []string{"", "a", "a\x00", "a\x00b", "\x00", "ab", "b", "a\xff", "\x01"}
	for i, t := range types {
		switch t.Kind {
		case feature.Int64:
			k[i] = feature.OfInt64([]int64{0, 1, -1, 2, math.MinInt64, math.MaxInt64}[rng.IntN(6)])
		case feature.Timestamp:
			k[i] = feature.OfTimestamp(rng.Int64N(5) - 2)
		case feature.Bool:
			k[i] = feature.OfBool(rng.IntN(2) == 1)
		case feature.String:
			k[i] = feature.OfString(words[rng.IntN(len(words))])
		case feature.Bytes:
			k[i] = feature.OfBytes([]byte(words[rng.IntN(len(words))]))
		}
	}
	return k
}

// TestFindAgainstOracle: random rows with ties, in random runs and blocks, beside random spines.
func TestFindAgainstOracle(t *testing.T) {
	s := seed(t)
	for round := range 600 {
		rng := rand.New(rand.NewPCG(s, uint64(round)))
		types := keyTypes[rng.IntN(len(keyTypes))]
		span := int64(1 + rng.IntN(30))
		runs := make([][]row, 1+rng.IntN(4))
		var all []row
		for i := range rng.IntN(80) {
			r := row{randomKey(rng, types), feature.Version{
				EventTime: rng.Int64N(span) - span/2, IngestedAt: rng.Int64N(6), Major: rng.Int64N(3), Minor: int64(i)}}
			if rng.IntN(20) == 0 {
				r.v.EventTime = []int64{math.MinInt64, math.MaxInt64}[rng.IntN(2)]
			}
			all = append(all, r)
			at := rng.IntN(len(runs))
			runs[at] = append(runs[at], r)
		}
		for _, run := range runs {
			slices.SortFunc(run, func(a, b row) int {
				if c := less(a.key, b.key); c != 0 {
					return c
				}
				return a.v.Compare(b.v)
			})
		}
		type spineRow struct {
			key []feature.Value
			t   int64
		}
		var spine []spineRow
		for range rng.IntN(60) {
			sr := spineRow{randomKey(rng, types), rng.Int64N(span+4) - span/2 - 2}
			if rng.IntN(20) == 0 {
				sr.t = []int64{math.MinInt64, math.MaxInt64}[rng.IntN(2)]
			}
			spine = append(spine, sr)
		}
		sort.SliceStable(spine, func(i, j int) bool {
			if c := less(spine[i].key, spine[j].key); c != 0 {
				return c < 0
			}
			return spine[i].t < spine[j].t
		})
		knownAt := int64(NoKnownAt)
		if rng.IntN(2) == 0 {
			knownAt = rng.Int64N(7) - 1
		}
		sp := Spine{Keys: NewKeys(types)}
		var ks [][]feature.Value
		for _, r := range spine {
			ks = append(ks, r.key)
			sp.Times = append(sp.Times, r.t)
		}
		sp.Keys.AppendRows(columns(types, ks), 0, len(ks))

		found := NewFound(len(spine))
		for _, run := range runs {
			cur := &blocks{types: types, rows: run, rng: rng}
			given := make([]feature.Version, len(spine)) // what this run gave each row
			last := int32(-1)
			err := Find(sp, cur, knownAt, func(b *Block, ms []Match) error {
				for _, m := range ms {
					if m.Spine < last {
						return fmt.Errorf("spine row %d after %d", m.Spine, last)
					}
					last = m.Spine
					if m.Row == Same {
						given[m.Spine] = given[m.Spine-1]
					} else {
						given[m.Spine] = run[cur.start+int(m.Row)].v
					}
					found.Offer(int(m.Spine), given[m.Spine])
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for i, r := range spine {
			want, ok := oracle(all, r.key, r.t, knownAt)
			if found.Has(i) != ok || found.Versions[i] != want {
				t.Fatalf("round %d, keys %v, known at %d: spine row %d (%v, %d): got %v %+v, want %v %+v",
					round, types, knownAt, i, r.key, r.t, found.Has(i), found.Versions[i], ok, want)
			}
			ttl := feature.Duration(rng.Int64N(12))
			got := found.Status(i, r.t, ttl)
			switch {
			case !ok:
				if got != feature.NotFound {
					t.Fatalf("status %v of nothing", got)
				}
			default:
				young := ttl == 0 || !tooOld(want.EventTime, r.t, int64(ttl))
				if (got == feature.Present) != young {
					t.Fatalf("round %d: row of %d at %d with ttl %d: %v", round, want.EventTime, r.t, ttl, got)
				}
			}
		}
	}
}

// tooOld is t - ttl > e without overflow, another way than the engine's.
func tooOld(e, t, ttl int64) bool {
	if t < math.MinInt64+ttl {
		return false
	}
	return e < t-ttl
}

func TestStatusAtBounds(t *testing.T) {
	for _, c := range []struct {
		e, t int64
		ttl  feature.Duration
		want feature.Status
	}{
		{10, 10, 5, feature.Present},
		{5, 10, 5, feature.Present},
		{4, 10, 5, feature.OutsideMaxAge},
		{math.MinInt64, math.MaxInt64, 0, feature.Present},
		{math.MinInt64, math.MaxInt64, feature.Day, feature.OutsideMaxAge},
		{math.MinInt64, math.MinInt64 + 3, 4, feature.Present},
		{math.MinInt64, math.MinInt64 + 3, 2, feature.OutsideMaxAge},
		{-5, -1, feature.Lifetime, feature.Present},
	} {
		if got := StatusAt(c.e, c.t, c.ttl); got != c.want {
			t.Errorf("StatusAt(%d, %d, %d) = %v, want %v", c.e, c.t, int64(c.ttl), got, c.want)
		}
	}
}

// TestKeysEncodeAsFeature: Keys is a faster form of feature.AppendKey, with the same order and hash.
func TestKeysEncodeAsFeature(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, types := range keyTypes {
		ks := make([][]feature.Value, 50)
		for i := range ks {
			ks[i] = randomKey(rng, types)
		}
		cols := columns(types, ks)
		k := NewKeys(types)
		k.AppendRows(cols, 0, len(ks))
		for i := range ks {
			want, ok := feature.AppendKeyRow(nil, cols, i)
			if got := k.Append(nil, i); !ok || string(got) != string(want) {
				t.Fatalf("%v: key %v is % x, want % x", types, ks[i], got, want)
			}
			if k.Hash(i) != feature.HashKey(want) {
				t.Fatalf("%v: hash of %v differs", types, ks[i])
			}
			for j := range ks {
				if c := less(ks[i], ks[j]); sign(k.Compare(i, k, j)) != c {
					t.Fatalf("%v: %v against %v is %d, want %d", types, ks[i], ks[j], k.Compare(i, k, j), c)
				}
				if k.Compare(i, k, j) <= 0 && k.Prefix(i) > k.Prefix(j) {
					t.Fatalf("%v: prefix of %v is past that of %v", types, ks[i], ks[j])
				}
			}
		}
	}
}

func sign(c int) int { return min(max(c, -1), 1) }
