package lookup

import (
	"math"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// NoTime is the event time of a value that has none: no instant is that early.
const NoTime = math.MinInt64

// Result is the answer to a request: for each output of the plan's selection, in
// its order, one entry per row. Outputs of one view share memory: never write to
// it. It is valid until Release.
type Result struct {
	Rows     int
	Columns  []*feature.Column
	Statuses [][]feature.Status
	// EventTimes are in microseconds, NoTime where there is none: those of the
	// row a value is of, also where that is too old; of a window the newest event of
	// the entity; of an on-demand feature the newest of its inputs'.
	EventTimes [][]int64
	// Instant is the instant that was looked up, in microseconds: the request's,
	// or the newest event time found if that is later.
	Instant int64
	// StaleSince is 0, or the instant, in microseconds, since when some of the records may have
	// changed: the store cannot be reached, and these were read then or later (online.StaleError).
	StaleSince int64
	// Corrupt counts the records that could not be read; their values are
	// INVALID. CorruptErr is what was wrong with one of them, or nil.
	Corrupt    int
	CorruptErr error

	plan    *Plan
	roles   []roleResult
	steps   []stepResult
	absent  absentResult
	keyring keyring
	records [][]byte
	broken  feature.Bitmap   // of records, those that are corrupt
	status  []feature.Status // the memory of statuses that are not shared
	inputs  []*feature.Column
	values  []feature.Value // of one record's windows
}

// roleResult is what one role found for each row.
type roleResult struct {
	columns []*feature.Column // as the role's Features
	refs    []int32           // into the keys; -1 for a null key
	found   []feature.Status
	times   []int64
	merger  window.Merger // of a windowed view
}

// stepResult is one on-demand feature.
type stepResult struct {
	column *feature.Column
	nulls  []*feature.Column // in the place of inputs that are absent; else nil
	times  []int64
}

// absentResult is what outputs get that there is nothing to read from.
type absentResult struct {
	columns []*feature.Column // one per output that is absent or a request field; else nil
	found   []feature.Status
	times   []int64
}

func (p *Plan) newResult() *Result {
	r := &Result{
		plan: p, roles: make([]roleResult, len(p.roles)), steps: make([]stepResult, len(p.sel.Steps)),
		Columns: make([]*feature.Column, len(p.sel.Outputs)), Statuses: make([][]feature.Status, len(p.sel.Outputs)),
		EventTimes: make([][]int64, len(p.sel.Outputs)),
		absent:     absentResult{columns: make([]*feature.Column, len(p.sel.Outputs))},
	}
	for i := range r.roles {
		if w := p.roles[i].windows; w != nil {
			r.roles[i].columns = w.columns()
		} else {
			r.roles[i].columns = p.roles[i].decoder.Columns(1)
		}
	}
	for i, s := range p.sel.Steps {
		f := s.View.Features[s.Feature]
		r.steps[i].column = feature.NewColumn(f.Name, s.Program.Type(), 1)
		r.steps[i].nulls = make([]*feature.Column, len(s.Inputs))
		for j, in := range s.Program.Inputs() {
			if s.Inputs[j].Absent() {
				r.steps[i].nulls[j] = feature.NewColumn(in.Name, in.Type, 1)
			}
		}
	}
	for i, o := range p.sel.Outputs {
		if o.From.Role < 0 && o.From.Step < 0 {
			r.absent.columns[i] = feature.NewColumn(o.Name, o.Type, 1)
		}
	}
	return r
}

// maxPooled is the number of rows of the greatest result whose memory is kept.
const maxPooled = 4096

// Release gives the result's memory back for other requests. It may be called once.
func (r *Result) Release() {
	if r.Rows > maxPooled {
		return
	}
	for i := range r.roles {
		reset(r.roles[i].columns)
	}
	for i := range r.steps {
		r.steps[i].column.Reset()
		reset(r.steps[i].nulls)
	}
	reset(r.absent.columns)
	r.keepRecords()
	clear(r.inputs)
	clear(r.values)
	clear(r.keyring.keys)
	r.Corrupt, r.CorruptErr = 0, nil
	r.plan.pool.Put(r)
}

// maxRecords is how many bytes of records are kept for the next request to be put into.
const maxRecords = 4 << 20

func (r *Result) keepRecords() {
	size := 0
	for _, rec := range r.records[:cap(r.records)] {
		size += cap(rec)
	}
	if size > maxRecords {
		clear(r.records[:cap(r.records)])
	}
}

func reset(cols []*feature.Column) {
	for _, c := range cols {
		if c != nil {
			c.Reset()
		}
	}
}

// sized is s with n elements, of any content.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

func fill[T any](s []T, v T) {
	for i := range s {
		s[i] = v
	}
}

// times are the event times of what comes from a place; nil if it has none.
func (r *Result) times(from selection.Column) []int64 {
	switch {
	case from.Role >= 0:
		return r.roles[from.Role].times
	case from.Step >= 0:
		return r.steps[from.Step].times
	}
	return nil
}

// outputs fills in the answer's columns.
func (r *Result) outputs(req *Request) {
	r.status = sized(r.status, len(r.Columns)*r.Rows)
	free := r.status
	own := func() []feature.Status {
		s := free[:r.Rows:r.Rows]
		free = free[r.Rows:]
		return s
	}
	for i := range r.plan.sel.Outputs {
		switch from := r.plan.sel.Outputs[i].From; {
		case from.Role >= 0:
			role := &r.roles[from.Role]
			r.Columns[i], r.EventTimes[i], r.Statuses[i] = role.columns[from.Feature], role.times, role.found
			if c := r.Columns[i]; len(c.Nulls) > 0 {
				s := own()
				copy(s, role.found)
				for row, found := range s {
					if found == feature.Present && c.Nulls.Get(row) {
						s[row] = nullStatus(c, row)
					}
				}
				r.Statuses[i] = s
			}
		case from.Step >= 0:
			r.Columns[i], r.EventTimes[i], r.Statuses[i] = r.steps[from.Step].column, r.steps[from.Step].times, own()
			statuses(r.Statuses[i], r.Columns[i])
		case from.Request >= 0:
			c := r.absent.columns[i]
			for row := range r.Rows {
				c.AppendRow(req.Request[from.Request], row)
			}
			r.Columns[i], r.EventTimes[i], r.Statuses[i] = c, r.absent.times, own()
			statuses(r.Statuses[i], c)
		default:
			c := r.absent.columns[i]
			appendNulls(c, r.Rows)
			r.Columns[i], r.EventTimes[i], r.Statuses[i] = c, r.absent.times, r.absent.found
		}
	}
}

func nullStatus(c *feature.Column, row int) feature.Status {
	if c.Bad.Get(row) {
		return feature.StatusInvalid
	}
	return feature.NullValue
}

// statuses are feature.StatusOf the values of a column.
func statuses(dst []feature.Status, c *feature.Column) {
	fill(dst, feature.Present)
	if len(c.Nulls) == 0 {
		return
	}
	for row := range dst {
		if c.Nulls.Get(row) {
			dst[row] = nullStatus(c, row)
		}
	}
}

func appendNulls(c *feature.Column, n int) {
	for range n {
		c.AppendNull()
	}
}

// keyring collects the keys of a request, each once.
type keyring struct {
	buf    []byte
	ends   []int   // of each key in buf
	same   []int32 // role.same of each key
	hashes []uint64
	table  []int32 // open addressing by hash: 1 + index of a key, 0 for none
	keys   []online.Key
}

func (k *keyring) reset(most int) {
	size := 4
	for size < 2*most {
		size *= 2
	}
	k.table = sized(k.table, size)
	clear(k.table)
	k.buf, k.ends, k.same, k.hashes, k.keys = k.buf[:0], k.ends[:0], k.same[:0], k.hashes[:0], k.keys[:0]
}

// add adds the key of a row, and returns its index among the keys; -1 for a null key.
func (k *keyring) add(same int, cols []*feature.Column, row int) int32 {
	start := len(k.buf)
	buf, whole := feature.AppendKeyRow(k.buf, cols, row)
	if !whole {
		return -1
	}
	k.buf = buf
	entity := k.buf[start:]
	// Roles of different views must not meet in the same places of the table.
	hash := feature.HashKey(entity) + uint64(same)*0x9e3779b97f4a7c15
	mask := uint64(len(k.table) - 1)
	at := hash & mask
	for ; k.table[at] != 0; at = (at + 1) & mask {
		i := k.table[at] - 1
		if k.hashes[i] == hash && k.same[i] == int32(same) && string(k.entity(int(i))) == string(entity) {
			k.buf = k.buf[:start]
			return i
		}
	}
	k.ends, k.same, k.hashes = append(k.ends, len(k.buf)), append(k.same, int32(same)), append(k.hashes, hash)
	k.table[at] = int32(len(k.ends))
	return int32(len(k.ends) - 1)
}

func (k *keyring) entity(i int) []byte {
	start := 0
	if i > 0 {
		start = k.ends[i-1]
	}
	return k.buf[start:k.ends[i]:k.ends[i]]
}

// finish makes the keys; buf does not move any more.
func (k *keyring) finish(roles []role) {
	for i, same := range k.same {
		k.keys = append(k.keys, online.Key{View: roles[same].view, Generation: roles[same].generation, Entity: k.entity(i)})
	}
}
