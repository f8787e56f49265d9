package materialize

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/forebay/forebay/registry/feature"
)

// logSink collects the rows of a source and appends them to its log, in commits with exact
// ranges of offsets. One append is under way while the next one's rows
// are collected. It is used under the session's mutex.
type logSink struct {
	s      *session
	next   map[int32]int64 // per partition, the next offset that is not collected
	buffer logBuffer

	under *logAppend // the append under way, or the last one
	// What follows is set by the append's goroutine.
	mu   sync.Mutex
	held map[int32]int64 // per partition, the next offset that the log does not hold
	err  error
}

type logBuffer struct {
	batches []*feature.Batch
	offsets map[int32]OffsetRange
	rows    int
	bytes   int64
	since   time.Time // when the first of it came
}

type logAppend struct {
	buffer logBuffer
	done   chan struct{}
}

func newLogSink(s *session) *logSink {
	return &logSink{s: s, next: map[int32]int64{}, held: map[int32]int64{}}
}

func (l *logSink) assign(p int32, next int64) {
	l.next[p] = next
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[p] = next
}

// forget forgets a partition of which nothing is collected, or nothing will be used.
func (l *logSink) forget(p int32) {
	delete(l.next, p)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, p)
}

// offsets are, per partition, the next offset that the log does not hold.
func (l *logSink) offsets() map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(map[int32]int64, len(l.held))
	for p, at := range l.held {
		held[p] = at
	}
	return held
}

// add collects a chunk: the rows that the log does not hold.
func (l *logSink) add(c *Chunk) error {
	whole := true
	for _, p := range c.Partitions {
		next, ok := l.next[p.ID]
		if !ok {
			return fmt.Errorf("%w: records of partition %d came, which is not assigned", ErrAgain, p.ID)
		}
		if p.Next <= next {
			whole = whole && p.Records == 0
			continue
		}
		if l.buffer.offsets == nil {
			l.buffer.offsets, l.buffer.since = map[int32]OffsetRange{}, time.Now()
		}
		if r, ok := l.buffer.offsets[p.ID]; ok {
			l.buffer.offsets[p.ID] = OffsetRange{From: r.From, To: p.Next}
		} else {
			l.buffer.offsets[p.ID] = OffsetRange{From: next, To: p.Next}
		}
	}
	rows := c.Rows
	for _, v := range rows.Versions {
		if v.Minor < l.next[int32(v.Major)] {
			whole = false
			break
		}
	}
	if !whole {
		rows = feature.NewBatch(c.Rows.Fields(), 0)
		for i, v := range c.Rows.Versions {
			if v.Minor >= l.next[int32(v.Major)] {
				rows.AppendRow(c.Rows, i)
			}
		}
	}
	for _, p := range c.Partitions {
		l.next[p.ID] = max(l.next[p.ID], p.Next)
	}
	if rows.Rows > 0 {
		l.buffer.batches = append(l.buffer.batches, rows)
		l.buffer.rows += rows.Rows
		l.buffer.bytes += batchBytes(rows)
	}
	return nil
}

// tick starts an append that is due. Where the memory is used up, it waits for the one under way first.
func (l *logSink) tick() error {
	if err := l.failed(); err != nil {
		return err
	}
	if l.buffer.offsets == nil {
		return nil
	}
	// Half of the memory is for the rows under way, half for those being collected.
	full := l.buffer.bytes >= l.s.memory/2
	if !full && l.buffer.rows < l.s.cfg.LogRows && time.Since(l.buffer.since) < l.s.cfg.LogEvery {
		return nil
	}
	if l.under != nil {
		select {
		case <-l.under.done:
		default:
			if !full {
				return nil
			}
			l.s.stats.stalls.Add(1)
			<-l.under.done // it ends by itself: partitions that are to move end its retries
		}
	}
	if err := l.failed(); err != nil {
		return err
	}
	l.start()
	return nil
}

// flush appends everything that was collected, and waits for it.
func (l *logSink) flush(ctx context.Context) error {
	for {
		if l.under != nil {
			select {
			case <-l.under.done:
			case <-ctx.Done():
				return fmt.Errorf("append to the log: %w", context.Cause(ctx))
			}
		}
		if err := l.failed(); err != nil || l.buffer.offsets == nil {
			return err
		}
		l.start()
	}
}

// wait waits until no append is under way.
func (l *logSink) wait() {
	if l.under != nil {
		<-l.under.done
	}
}

func (l *logSink) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *logSink) start() {
	a := &logAppend{buffer: l.buffer, done: make(chan struct{})}
	l.under, l.buffer = a, logBuffer{}
	go func() {
		defer close(a.done)
		started := time.Now()
		err := l.append(a.buffer)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			l.err = fmt.Errorf("append to the log: %w", err)
			return
		}
		for p, r := range a.buffer.offsets {
			if _, ours := l.held[p]; ours {
				l.held[p] = r.To
			}
		}
		l.s.stats.appended(a.buffer.rows)
		l.s.log.Debug("appended to the log", "rows", a.buffer.rows, "bytes", a.buffer.bytes, "took", time.Since(started))
	}()
}

// append appends a buffer once. An append whose answer was lost may have been
// made: then the next attempt conflicts, and the log ends where the buffer does.
func (l *logSink) append(b logBuffer) error {
	attempts := 0
	err := l.s.retry("the offline store", func(ctx context.Context) error {
		attempts++
		return l.s.cfg.Log.Append(ctx, l.s.src, b.batches, b.offsets)
	})
	if !errors.Is(err, ErrConflict) {
		return err
	}
	if attempts > 1 {
		var held map[int32]int64
		if err := l.s.retry("the offline store", func(ctx context.Context) (err error) {
			held, err = l.s.cfg.Log.Offsets(ctx, l.s.src)
			return err
		}); err != nil {
			return err
		}
		made := true
		for p, r := range b.offsets {
			made = made && held[p] == r.To
		}
		if made {
			return nil
		}
	}
	return fmt.Errorf("%w: another member has these partitions: %w", ErrAgain, err)
}

// batchBytes is about the memory of a batch.
func batchBytes(b *feature.Batch) int64 {
	n := int64(cap(b.Versions)) * 32
	for _, c := range b.Columns {
		n += int64(cap(c.Nums))*8 + int64(cap(c.Offsets))*4 + int64(cap(c.Data)) + int64(cap(c.Nulls)+cap(c.Bad))*8
		for _, v := range c.Values {
			n += valueBytes(v)
		}
	}
	return n
}

func valueBytes(v feature.Value) int64 {
	const header = 32
	switch v.Kind() {
	case feature.Embedding:
		return header + 4*int64(len(v.Embedding()))
	case feature.List:
		n := int64(header)
		for _, e := range v.List() {
			n += valueBytes(e)
		}
		return n
	case feature.String, feature.Bytes:
		return header + int64(len(v.Bytes()))
	}
	return header
}
