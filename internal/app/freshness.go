package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
)

// A stream leaves in the online store how far it is, so that `forebay status` can tell from another
// process, and when none runs: as resume points of a view that no project can have, source/<name>,
// of generation 0. Each member of the consumer group has one of its own, called after
// the least of its partitions (docs/format/generations.md).

// publishEvery is how often a stream leaves how far it is.
const publishEvery = time.Second

// publishedFormat is the version of what it leaves.
const publishedFormat = 1

type published struct {
	Format int                     `json:"format"`
	At     time.Time               `json:"at"`
	Stats  materialize.SourceStats `json:"stats"`
}

const memberPrefix = "member/"

func freshnessOf(source string) string { return "source/" + source }

// runStream runs a stream, and leaves how far it is from time to time and at the end.
func (a *App) runStream(ctx context.Context, s *materialize.Stream) error {
	on, err := a.onlineStore(ctx)
	if err != nil {
		return err
	}
	stop := a.background(ctx, func(ctx context.Context) {
		tick := time.NewTicker(publishEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				// A store that is away is the stream's business, which says so.
				_ = a.publish(ctx, on, s.Stats())
			}
		}
	})
	err = s.Run(ctx)
	stop()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishEvery)
	defer cancel()
	if err := a.publish(last, on, s.Stats()); err != nil {
		a.log.Debug("how far the stream was could not be left for status", "error", err)
	}
	return err
}

func (a *App) publish(ctx context.Context, on online.Store, all []materialize.SourceStats) error {
	var points []online.Resume
	for _, stats := range all {
		member, ok := slot(stats)
		if !ok {
			continue // it never had a partition
		}
		text, err := json.Marshal(published{publishedFormat, a.wall().UTC(), stats})
		if err != nil {
			return err
		}
		points = append(points, online.Resume{View: freshnessOf(stats.Source), Input: memberPrefix + fmt.Sprint(member), Position: string(text)})
	}
	return on.SetResumes(ctx, points)
}

// slot is the least partition of a member or, of one that has ended, that it had at last.
func slot(s materialize.SourceStats) (int32, bool) {
	if len(s.Partitions) > 0 {
		return s.Partitions[0].Partition, true
	}
	if len(s.Left) == 0 {
		return 0, false
	}
	last := slices.MaxFunc(s.Left, func(a, b materialize.PartitionStats) int {
		if d := a.At.Sub(b.At); d.Abs() > publishEvery { // those of one end are forgotten one after the other
			return cmp.Compare(d, 0)
		}
		return cmp.Compare(b.Partition, a.Partition)
	})
	return last.Partition, true
}

// StreamStatus says how far the stream of a source is, over all members of its group.
type StreamStatus struct {
	At      time.Time `json:"at"` // when a member said so last
	Running bool      `json:"running"`
	Members int       `json:"members"`
	// State is the worst of the members'.
	State materialize.State `json:"state"`
	Error string            `json:"error,omitempty"`

	Lag        int64      `json:"lag"`         // records of the topic that are not applied
	LagSeconds float64    `json:"lag_seconds"` // the greatest of the partitions'
	Watermark  *time.Time `json:"watermark,omitempty"`
	// Of the time from a record's own timestamp to its row being applied online, since the members started.
	Served    uint64  `json:"served"` // rows
	ServedP50 float64 `json:"served_p50_seconds"`
	ServedP99 float64 `json:"served_p99_seconds"`

	Rows        int64                        `json:"rows"` // counts are since the members started
	DeadLetters int64                        `json:"dead_letters"`
	Restarts    int64                        `json:"restarts"`
	Partitions  []materialize.PartitionStats `json:"partitions"`

	views []materialize.ViewStats
}

const (
	// A stream that has said nothing for as long does not run.
	streamSilent = 10 * time.Second
	// Members that said their last so long before another one are gone: their counts are not added.
	memberGone = time.Minute
)

// streamStatus reads what the members of a source's group left; nil if nothing was ever
// streamed. ends are the topic's, where they are known.
func streamStatus(ctx context.Context, on online.Store, src *registry.Source, ends map[int32]int64, now time.Time) (*StreamStatus, error) {
	points, err := on.Resumes(ctx, freshnessOf(src.Name), 0)
	if err != nil {
		return nil, err
	}
	var members []published
	var newest time.Time
	for _, p := range points {
		if !strings.HasPrefix(p.Input, memberPrefix) {
			continue
		}
		var m published
		// What another version left is not worth failing for: the next second brings something else.
		if json.Unmarshal([]byte(p.Position), &m) != nil || m.Format != publishedFormat || m.Stats.Topic != src.Kafka.Topic {
			continue
		}
		members = append(members, m)
		if m.At.After(newest) {
			newest = m.At
		}
	}
	if len(members) == 0 {
		return nil, nil
	}
	s := &StreamStatus{At: newest, Running: now.Sub(newest) < streamSilent, State: materialize.StateStopped}
	partitions := map[int32]materialize.PartitionStats{}
	var served materialize.Delays
	for _, m := range members {
		for _, p := range slices.Concat(m.Stats.Partitions, m.Stats.Left) {
			if had, ok := partitions[p.Partition]; !ok || p.At.After(had.At) {
				partitions[p.Partition] = p
			}
		}
		if newest.Sub(m.At) > memberGone {
			continue
		}
		s.Members++
		served.Merge(m.Stats.Served)
		s.Rows += m.Stats.Rows
		s.Restarts += m.Stats.Restarts
		for _, n := range m.Stats.DeadLetters {
			s.DeadLetters += n
		}
		s.views = append(s.views, m.Stats.Views...)
		if worse(m.Stats.State, s.State) {
			s.State, s.Error = m.Stats.State, m.Stats.Error
		}
	}
	if s.State == materialize.StateStopped || s.State == materialize.StateFailed {
		s.Running = false
	}
	s.Served, s.ServedP50, s.ServedP99 = served.Count, served.Quantile(.5), served.Quantile(.99)
	for id, end := range ends {
		p, ok := partitions[id]
		if !ok && end == 0 {
			continue
		}
		p.Partition = id
		if grown := max(0, end-p.Next); grown > 0 && ok {
			// What came since may be as old as that.
			p.LagSeconds += max(0, now.Sub(p.At).Seconds())
		} else if grown == 0 {
			p.LagSeconds = 0
		}
		p.End, p.Lag = max(end, p.Next), max(0, end-p.Next)
		partitions[id] = p
	}
	for _, p := range partitions {
		s.Lag += p.Lag
		s.LagSeconds = max(s.LagSeconds, p.LagSeconds)
		s.Partitions = append(s.Partitions, p)
	}
	slices.SortFunc(s.Partitions, func(a, b materialize.PartitionStats) int { return cmp.Compare(a.Partition, b.Partition) })
	s.Watermark = materialize.Watermark(s.Partitions)
	return s, nil
}

// worse reports whether one state deserves more attention than another.
func worse(a, b materialize.State) bool {
	order := []materialize.State{materialize.StateStopped, materialize.StateRunning, materialize.StateStarting, materialize.StateRetrying, materialize.StateFailed}
	return slices.Index(order, a) > slices.Index(order, b)
}

// view sums what became of events in a generation of a view.
func (s *StreamStatus) view(name string, generation int) (sum materialize.ViewStats) {
	if s == nil {
		return sum
	}
	for _, v := range s.views {
		if v.View == name && v.Generation == generation {
			sum.Applied += v.Applied
			sum.Stale += v.Stale
			sum.Filtered += v.Filtered
			sum.Invalid += v.Invalid
			sum.Late += v.Late
			sum.NaNs += v.NaNs
		}
	}
	return sum
}
