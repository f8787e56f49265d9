package pit

import (
	"bytes"
	"errors"
	"io"
	"math"

	"github.com/forebay/forebay/registry/feature"
)

// NoKnownAt is the knownAt of a Find that hides nothing.
const NoKnownAt = math.MaxInt64

// Spine is what is looked up, sorted by (key, instant).
type Spine struct {
	Keys  *Keys
	Times []int64 // instants, microseconds
}

// Block is some consecutive rows of a run.
type Block struct {
	Keys  *Keys
	Times []int64 // event times, microseconds
	// Ingested is only looked at where a known_at is given, and may be nil else.
	Ingested []int64
}

// Cursor reads a run: rows in order of (entity key, version). It is used by one goroutine.
type Cursor interface {
	// Next returns the next rows, at least one, or io.EOF. It may leave out
	// rows whose keys are below key from of keys. The block is valid until
	// the next call.
	Next(keys *Keys, from int) (*Block, error)
}

// Match says that row Row of a block is the newest row, so far, for row Spine of the spine.
type Match struct {
	Spine int32
	Row   int32 // Same: the row that the spine's row before was given
}

// Same is the Row of a Match whose row is in a block that is gone by now: it is
// the last one reported for row Spine-1.
const Same = -1

// flushMatches bounds the memory of matches in one block.
const flushMatches = 8192

// Find walks a spine beside a run and reports, for each row of the spine, the
// newest row of its key at or before its instant, ingested at knownAt at the
// latest. Rows of the spine come in rising order; one whose match lies at the
// end of a block may be reported again with a newer row of a later block.
// emit must copy what it needs of the block; ms is reused. The block is nil
// for matches that are all Same.
func Find(spine Spine, run Cursor, knownAt int64, emit func(b *Block, ms []Match) error) error {
	n := spine.Keys.Len()
	ms := make([]Match, 0, 256)
	// held: row s of the spine has been given a row of an earlier block.
	held := false
	for s := 0; s < n; {
		b, err := run.Next(spine.Keys, s)
		if errors.Is(err, io.EOF) {
			return finish(spine, s, held, ms, emit)
		}
		if err != nil {
			return err
		}
		row, cand, rows := 0, -1, len(b.Times)
		for {
			row, cand = b.advance(row, cand, spine, s, knownAt)
			switch {
			case cand >= 0:
				ms = append(ms, Match{Spine: int32(s), Row: int32(cand)})
				held = false
			case held && row < rows:
				// Nothing newer: row s keeps what it has, and gives it on below.
			}
			if row == rows {
				break // a later block may have a newer row for s
			}
			if s+1 == n {
				s++
				break
			}
			same := spine.Keys.Compare(s, spine.Keys, s+1) == 0
			s++
			switch {
			case !same:
				cand, held = -1, false
			case held:
				ms = append(ms, Match{Spine: int32(s), Row: Same})
			}
			if len(ms) >= flushMatches {
				if err := emit(b, ms); err != nil {
					return err
				}
				ms = ms[:0]
			}
		}
		if cand >= 0 {
			held = true
		}
		if len(ms) > 0 {
			if err := emit(b, ms); err != nil {
				return err
			}
			ms = ms[:0]
		}
	}
	return nil
}

// finish gives the row that s holds to the rest of its key, after the end of the run.
func finish(spine Spine, s int, held bool, ms []Match, emit func(*Block, []Match) error) error {
	for s++; held && s < spine.Keys.Len() && spine.Keys.Compare(s-1, spine.Keys, s) == 0; s++ {
		ms = append(ms, Match{Spine: int32(s), Row: Same})
	}
	if len(ms) == 0 {
		return nil
	}
	return emit(nil, ms)
}

// advance moves from row to the first row after (key, instant) of row s of the
// spine, and returns it and the newest known row passed with that key: cand, if none is newer.
func (b *Block) advance(row, cand int, spine Spine, s int, knownAt int64) (int, int) {
	t := spine.Times[s]
	if knownAt == NoKnownAt {
		end := b.search(row, spine.Keys, s, t, false)
		if end > row && b.Keys.Compare(end-1, spine.Keys, s) == 0 {
			cand = end - 1
		}
		return end, cand
	}
	// Rows not known yet may lie anywhere among the others, so each is looked
	// at, once: row never goes back.
	row = b.search(row, spine.Keys, s, math.MinInt64, true)
	for row < len(b.Times) && b.Times[row] <= t && b.Keys.Compare(row, spine.Keys, s) == 0 {
		if b.Ingested[row] <= knownAt {
			cand = row
		}
		row++
	}
	return row, cand
}

// search finds the first row from lo on that is past (key of s, t), or, with
// at, not before it. It gallops, so that its cost is the logarithm of how far it goes.
func (b *Block) search(lo int, keys *Keys, s int, t int64, at bool) int {
	rows := len(b.Times)
	step, hi := 1, lo
	for hi < rows && !b.past(hi, keys, s, t, at) {
		lo = hi + 1
		hi += step
		step *= 2
	}
	hi = min(hi, rows)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if b.past(mid, keys, s, t, at) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

func (b *Block) past(row int, keys *Keys, s int, t int64, at bool) bool {
	if b.Keys.Offsets == nil {
		k, w := b.Keys.Words[row], keys.Words[s]
		return k > w || k == w && (b.Times[row] > t || at && b.Times[row] == t)
	}
	c := bytes.Compare(b.Keys.at(row), keys.at(s))
	return c > 0 || c == 0 && (b.Times[row] > t || at && b.Times[row] == t)
}

// Found is what was found for the rows of a spine, in any order of rows.
type Found struct {
	Versions []feature.Version
	has      []bool
}

// NewFound makes the Found of n rows, with nothing found.
func NewFound(n int) *Found {
	return &Found{Versions: make([]feature.Version, n), has: make([]bool, n)}
}

// Offer puts a row's version at row i if it is newer than what is there, and
// reports whether it was. Different rows may be offered to concurrently.
func (f *Found) Offer(i int, v feature.Version) bool {
	if f.has[i] && v.Compare(f.Versions[i]) <= 0 {
		return false
	}
	f.Versions[i], f.has[i] = v, true
	return true
}

// Has reports whether anything was found for row i.
func (f *Found) Has(i int) bool { return f.has[i] }

// Status is the status of row i at instant t: Present if its row is at most
// ttl old (ttl 0: any age), both ends inclusive.
func (f *Found) Status(i int, t int64, ttl feature.Duration) feature.Status {
	if !f.has[i] {
		return feature.NotFound
	}
	return StatusAt(f.Versions[i].EventTime, t, ttl)
}

// StatusAt is the status of a row of an event time, not after t, at instant t.
func StatusAt(eventTime, t int64, ttl feature.Duration) feature.Status {
	// As unsigned numbers the difference cannot overflow, wherever the two lie.
	if ttl > 0 && uint64(t)-uint64(eventTime) > uint64(ttl) {
		return feature.OutsideMaxAge
	}
	return feature.Present
}
