package materialize

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
)

// State is what a source's stream is doing.
type State string

// The states.
const (
	StateStarting State = "starting" // filling views, joining the group
	StateRunning  State = "running"
	StateRetrying State = "retrying" // something is unavailable
	StateStopped  State = "stopped"
	StateFailed   State = "failed"
)

// SourceStats describes the stream of one source. Counts are since the start of the process.
type SourceStats struct {
	Source string `json:"source"`
	Topic  string `json:"topic"`
	State  State  `json:"state"`
	Error  string `json:"error,omitempty"` // why it is retrying, or has failed

	Rows        int64            `json:"rows"`         // decoded and applied
	DeadLetters map[Reason]int64 `json:"dead_letters"` // those of views too
	Logged      int64            `json:"logged"`       // rows appended to the log
	Retries     int64            `json:"retries"`      // calls repeated because something was unavailable
	Restarts    int64            `json:"restarts"`     // sessions that ended with buffers dropped
	Stalls      int64            `json:"stalls"`       // times that fetching waited for the log
	Skipped     int64            `json:"skipped"`      // offsets in accepted gaps

	// Watermark is the event time up to which everything that Kafka has is applied: the least of the
	// partitions that are behind; the greatest of all where none is. A partition without new
	// events holds nothing back. Nil before the first event.
	Watermark *time.Time `json:"watermark,omitempty"`
	// Served is the time from a record's own timestamp to its row being applied everywhere online.
	Served Delays `json:"served"`

	Partitions []PartitionStats `json:"partitions"` // those of this member, sorted
	// Left are partitions that this member had and has no more, as they were then, sorted.
	Left  []PartitionStats `json:"left,omitempty"`
	Views []ViewStats      `json:"views"`
}

// PartitionStats is how far this member is in one partition.
type PartitionStats struct {
	Partition  int32   `json:"partition"`
	Next       int64   `json:"next"` // offset
	End        int64   `json:"end"`  // offset, as of the last fetch
	Lag        int64   `json:"lag"`  // records
	LagSeconds float64 `json:"lag_seconds"`
	// Watermark is the greatest event time that was applied; nil before the first event.
	Watermark *time.Time `json:"watermark,omitempty"`
	At        time.Time  `json:"at"` // when all this was so
}

// ViewStats counts what became of a source's rows in one view generation.
type ViewStats struct {
	View       string `json:"view"`
	Generation int    `json:"generation"`
	Applied    int64  `json:"applied"`   // written
	Stale      int64  `json:"stale"`     // the store had a newer one
	Filtered   int64  `json:"filtered"`  // not selected by the filter
	NullKeys   int64  `json:"null_keys"` // refused
	Invalid    int64  `json:"invalid"`   // values that could not be computed

	// Filled and ToFill are rows of its table, while and after it is filled from the offline store.
	Filled int64 `json:"filled,omitempty"`
	ToFill int64 `json:"to_fill,omitempty"`

	// Of a windowed view.
	Late  int64 `json:"late,omitempty"`  // events older than every window, which change no value
	NaNs  int64 `json:"nans,omitempty"`  // inputs that are NaN, which are skipped
	Epoch int64 `json:"epoch,omitempty"` // of the states that are written
	// Lag is, of a view that is fed through an internal topic, the records of that which this
	// member has not applied.
	Lag int64 `json:"lag,omitempty"`
}

// sourceStats collects SourceStats. It is safe for concurrent use.
type sourceStats struct {
	now   func() time.Time
	heard func(micros int64) // nil, or StreamConfig.Served

	retries, restarts, stalls, skipped atomic.Int64

	mu         sync.Mutex
	state      State
	err        error
	input      Input
	base       SourceStats
	served     Delays
	partitions map[int32]*partitionStats
	left       map[int32]PartitionStats
}

type partitionStats struct {
	next, end int64
	newest    int64 // of the last record, microseconds
	watermark int64 // the greatest event time
	events    bool  // there is a watermark
}

func (s *sourceStats) init(src *registry.Source, heard func(micros int64)) {
	s.now, s.heard = time.Now, heard
	s.base = SourceStats{Source: src.Name, Topic: src.Kafka.Topic, DeadLetters: map[Reason]int64{}}
	s.state = StateStarting
	s.partitions, s.left = map[int32]*partitionStats{}, map[int32]PartitionStats{}
}

func (s *sourceStats) addView(v registry.ViewGeneration) {
	s.base.Views = append(s.base.Views, ViewStats{View: v.View.Name, Generation: v.Number})
}

func (s *sourceStats) setState(state State, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.err = state, err
}

func (s *sourceStats) setInput(in Input) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.input = in
}

func (s *sourceStats) assign(p Partition, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[p.ID] = &partitionStats{next: next, end: p.End, newest: s.now().UnixMicro()}
	delete(s.left, p.ID)
}

func (s *sourceStats) forget(p int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.partitions[p]; at != nil {
		s.left[p] = s.describe(p, at)
	}
	delete(s.partitions, p)
}

func (s *sourceStats) count(c *Chunk, bad []Bad) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base.Rows += int64(c.Rows.Rows)
	for _, b := range bad {
		s.base.DeadLetters[b.Reason]++
	}
	for _, p := range c.Partitions {
		if at := s.partitions[p.ID]; at != nil {
			at.next, at.end, at.newest = p.Next, max(p.End, p.Next), p.Newest
		}
	}
	now := s.now().UnixMicro()
	var at *partitionStats
	last := int32(-1)
	for i, v := range c.Rows.Versions {
		if p, _ := c.position(i); p != last {
			at, last = s.partitions[p], p
		}
		if at != nil && (!at.events || v.EventTime > at.watermark) {
			at.watermark, at.events = v.EventTime, true
		}
		s.served.add(now - v.IngestedAt)
		if s.heard != nil {
			s.heard(now - v.IngestedAt)
		}
	}
}

// countRefused counts dead letters of rows that are not applied here.
func (s *sourceStats) countRefused(bad []Bad) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range bad {
		s.base.DeadLetters[b.Reason]++
	}
}

func (s *sourceStats) countView(v registry.ViewGeneration, st expr.Stats, applied, stale int) {
	s.changeView(v, func(k *ViewStats) {
		k.Applied += int64(applied)
		k.Stale += int64(stale)
		k.Filtered += int64(st.Filtered)
		k.NullKeys += int64(st.NullKeys)
		k.Invalid += int64(st.Invalid)
	})
}

// countWindows counts what became of events in a windowed view.
func (s *sourceStats) countWindows(v registry.ViewGeneration, late, nans int64) {
	s.changeView(v, func(k *ViewStats) {
		k.Late += late
		k.NaNs += nans
	})
}

// filled notes how far a view is filled from the offline store.
func (s *sourceStats) filled(p BatchProgress) {
	s.changeView(p.View, func(k *ViewStats) { k.Filled, k.ToFill = p.Done, max(p.Done, p.Total) })
}

// setEpoch notes the epoch of the states that are written to a windowed view.
func (s *sourceStats) setEpoch(v registry.ViewGeneration, epoch int64) {
	s.changeView(v, func(k *ViewStats) { k.Epoch = epoch })
}

func (s *sourceStats) changeView(v registry.ViewGeneration, change func(*ViewStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.base.Views {
		if k := &s.base.Views[i]; k.View == v.View.Name && k.Generation == v.Number {
			change(k)
		}
	}
}

func (s *sourceStats) appended(rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base.Logged += int64(rows)
}

// merge adds a view that is fed through an internal topic.
func (s *SourceStats) merge(view SourceStats) {
	for i := range view.Views {
		for _, p := range view.Partitions {
			view.Views[i].Lag += p.Lag
		}
	}
	s.Views = append(s.Views, view.Views...)
	s.Retries += view.Retries
	s.Restarts += view.Restarts
	for reason, n := range view.DeadLetters {
		s.DeadLetters[reason] += n
	}
	s.Served.Merge(view.Served)
	if s.State == StateRunning && view.State != StateRunning {
		s.State, s.Error = view.State, view.Error
	}
}

func (s *sourceStats) health() error {
	s.mu.Lock()
	state, err, input := s.state, s.err, s.input
	s.mu.Unlock()
	if state == StateRetrying || state == StateFailed {
		return err
	}
	if input != nil {
		return input.Health()
	}
	return nil
}

func (s *sourceStats) snapshot() SourceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.base
	out.State, out.DeadLetters, out.Views = s.state, maps.Clone(out.DeadLetters), slices.Clone(out.Views)
	if s.err != nil {
		out.Error = s.err.Error()
	}
	out.Retries, out.Restarts, out.Stalls, out.Skipped = s.retries.Load(), s.restarts.Load(), s.stalls.Load(), s.skipped.Load()
	out.Served = s.served
	for _, id := range slices.Sorted(maps.Keys(s.partitions)) {
		out.Partitions = append(out.Partitions, s.describe(id, s.partitions[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(s.left)) {
		out.Left = append(out.Left, s.left[id])
	}
	out.Watermark = Watermark(out.Partitions)
	return out
}

// describe says how far a partition is now.
func (s *sourceStats) describe(id int32, p *partitionStats) PartitionStats {
	now := s.now().UTC()
	st := PartitionStats{Partition: id, Next: p.next, End: p.end, Lag: max(0, p.end-p.next), At: now}
	if st.Lag > 0 {
		st.LagSeconds = max(0, now.Sub(time.UnixMicro(p.newest)).Seconds())
	}
	if p.events {
		t := time.UnixMicro(p.watermark).UTC()
		st.Watermark = &t
	}
	return st
}

// Watermark is that of a source, made of its partitions (see SourceStats.Watermark).
func Watermark(partitions []PartitionStats) *time.Time {
	var least, greatest *time.Time
	for _, p := range partitions {
		w := p.Watermark
		if w == nil {
			continue
		}
		if p.Lag > 0 && (least == nil || w.Before(*least)) {
			least = w
		}
		if greatest == nil || w.After(*greatest) {
			greatest = w
		}
	}
	if least != nil {
		return least
	}
	return greatest
}
