package materialize

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry/feature"
)

// ErrRange is returned by [Batch.Run] for a windowed view with a range of event times.
var ErrRange = errors.New("windows are built from the whole history, never from a part of it: leave --from and --to out")

// ErrSuperseded is returned by [Batch.Run] when another process has begun to build the same
// windows anew meanwhile. What this one wrote is replaced by that.
var ErrSuperseded = errors.New("another process builds the same windows anew, and goes on with that")

// buildBeat is how often a build says that it is under way.
const buildBeat = time.Second

// runWindows builds the states of a windowed view anew, under an epoch of their own, unless they are
// of the table as it is.
func (r *batchRun) runWindows(ctx context.Context, resumes map[string]string) error {
	v := r.req.View
	if r.req.From != nil || r.req.To != nil {
		return ErrRange
	}
	plan, err := window.ForView(v.View)
	if err != nil {
		return err
	}
	anew := r.req.Overwrite
	for range maxBuilds {
		table, err := r.refresh(ctx)
		if err != nil {
			return err
		}
		epoch, err := resumedEpoch(resumes)
		if err != nil {
			return err
		}
		if at, ok := resumes[resumeOffline]; ok && at == snapshotName(table) && epoch > 0 && !anew {
			return r.goLive(ctx)
		}
		b := windowBuild{batchRun: r, plan: plan, table: table}
		switch err := b.build(ctx, resumes); {
		case errors.Is(err, ErrConflict):
			// The table is another one already, or the store another server.
		case err != nil:
			return err
		case v.Source().Kafka != nil:
			return r.goLive(ctx)
		default:
			// Rows that were pushed before the epoch was there went to the log and to the states of the
			// epoch before alone: look at the log again.
			anew = false
		}
		if resumes, err = r.resumes(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the rows of %s grow faster than its windows are built", ErrUnavailable, v)
}

// maxBuilds is how often windows are built anew to meet one state of a table that grows meanwhile.
const maxBuilds = 20

// snapshotName is the resume point of a derived table.
func snapshotName(t TableState) string {
	if t.Snapshot == "" {
		return resumeNone
	}
	return t.Snapshot
}

// windowBuild writes the state of every entity of a derived table.
type windowBuild struct {
	*batchRun
	plan   *window.Plan
	table  TableState
	epoch  int64
	server string
}

func (b *windowBuild) build(ctx context.Context, resumes map[string]string) error {
	had, err := resumedEpoch(resumes)
	if err != nil {
		return err
	}
	building, err := builtNow(resumes)
	if err != nil {
		return err
	}
	b.epoch = max(time.Now().UnixMicro(), had+1, building+1, b.req.Beyond+1)
	if b.server, err = b.takesWrites(ctx); err != nil {
		return err
	}
	if err := b.say(ctx, 0); err != nil {
		return err
	}
	beat, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(buildBeat)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-beat.Done():
				return
			case <-tick.C:
				_ = b.say(beat, n) // the writes say what is wrong with the store
			}
		}
	}()
	err = b.write(ctx)
	stop()
	<-stopped
	if err != nil {
		return err
	}
	return b.finish(ctx)
}

// say says in the online store that the build is under way, for the nth time.
func (b *windowBuild) say(ctx context.Context, n int) error {
	err := b.retry(ctx, func(ctx context.Context) error {
		return b.Online.SetResumes(ctx, b.req.View, map[string]string{resumeBuilding: fmt.Sprintf("%d/%d", b.epoch, n)})
	})
	if err != nil {
		return fmt.Errorf("store the resume points: %w", err)
	}
	return nil
}

// write writes the states of all entities, a few batches at once.
func (b *windowBuild) write(ctx context.Context) error {
	if b.table.Snapshot == "" {
		return nil
	}
	// A scan that breaks off starts again: what it wrote is written again, the same.
	return b.retry(ctx, func(ctx context.Context) error {
		b.result.Rows, b.result.Applied, b.result.Stale = 0, 0, 0
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		w := newWriters(ctx, cancel, b.batchRun, func() *stateBuffer { return &stateBuffer{} }, b.writeStates)
		err := b.fill(ctx, w)
		if writeErr := w.finish(); writeErr != nil {
			return writeErr
		}
		return err
	})
}

// stateBuffer is a batch of states to be written.
type stateBuffer struct {
	records []WindowRecord
	memory  []byte // of their keys and states
}

// stateBytes is how much of encoded states is written at once.
const stateBytes = 4 << 20

func (b *windowBuild) writeStates(ctx context.Context, batch *stateBuffer) (applied, stale int, err error) {
	defer func() { batch.records, batch.memory = batch.records[:0], batch.memory[:0] }()
	err = b.retry(ctx, func(ctx context.Context) (err error) {
		applied, stale, err = b.Online.WriteStates(ctx, b.req.View, batch.records)
		return err
	})
	if err != nil || stale == 0 {
		return applied, stale, err
	}
	var foreign error
	err = b.retry(ctx, func(ctx context.Context) (err error) {
		foreign, _, err = othersStates(ctx, b.Online, b.req.View, batch.records)
		return err
	})
	if err == nil && foreign != nil {
		err = fmt.Errorf("%w: %w", ErrSuperseded, foreign)
	}
	return applied, stale, err
}

// fill scans the table and builds the states, entity by entity.
func (b *windowBuild) fill(ctx context.Context, w *writers[*stateBuffer]) error {
	keys := len(b.req.View.JoinKeys())
	var state window.State
	var current, key []byte
	begun := false
	batch := w.next()
	emit := func() error {
		if !begun {
			return nil
		}
		from := len(batch.memory)
		batch.memory = append(batch.memory, current...)
		end := len(batch.memory)
		batch.memory = b.plan.Append(batch.memory, &state)
		batch.records = append(batch.records, WindowRecord{Epoch: b.epoch,
			Key: batch.memory[from:end:end], State: batch.memory[end:len(batch.memory):len(batch.memory)]})
		state, begun = window.State{}, false
		if len(batch.records) < b.rows() && len(batch.memory) < stateBytes {
			return nil
		}
		if err := w.send(batch); err != nil {
			return err
		}
		batch = w.next()
		return nil
	}
	for rows, err := range b.Tables.Scan(ctx, b.req.View, ScanOptions{Snapshot: b.table.Snapshot}) {
		if err != nil {
			return fmt.Errorf("scan the derived table: %w", err)
		}
		cols, inputs := rows.Columns[:keys], rows.Columns[keys:]
		for i := range rows.Rows {
			var whole bool
			if key, whole = feature.AppendKeyRow(key[:0], cols, i); !whole {
				return errNullKey
			}
			if !begun || string(key) != string(current) {
				if err := emit(); err != nil {
					return err
				}
				current, begun = append(current[:0], key...), true
			}
			b.plan.Add(&state, window.Row{Version: rows.Versions[i], Columns: inputs, Index: i})
		}
		b.read(rows.Rows)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := emit(); err != nil {
		return err
	}
	if len(batch.records) == 0 {
		return nil
	}
	return w.send(batch)
}

// finish stores the resume points that the states stand for.
func (b *windowBuild) finish(ctx context.Context) error {
	if err := b.sameServer(ctx); err != nil {
		return err
	}
	resumes, err := b.resumes(ctx)
	if err != nil {
		return err
	}
	building, err := builtNow(resumes)
	if err != nil {
		return err
	}
	had, err := resumedEpoch(resumes)
	if err != nil {
		return err
	}
	if later := max(building, had); later > b.epoch {
		return fmt.Errorf("%w: its epoch is %d", ErrSuperseded, later)
	}
	positions := b.positions(resumes)
	if err := b.retry(ctx, func(ctx context.Context) error {
		return b.Online.SetResumes(ctx, b.req.View, positions)
	}); err != nil {
		return fmt.Errorf("store the resume points: %w", err)
	}
	return b.sameServer(ctx)
}

// sameServer is an ErrConflict if the online store may have lost some of what was written.
func (b *windowBuild) sameServer(ctx context.Context) error {
	now, err := b.takesWrites(ctx)
	if err == nil && now != b.server {
		err = fmt.Errorf("%w: another server takes the online store's writes now, %s and not %s", ErrConflict, now, b.server)
	}
	return err
}

// positions are the resume points of a build: what the stream noted of the states before is void.
func (b *windowBuild) positions(resumes map[string]string) map[string]string {
	positions := map[string]string{resumeOffline: snapshotName(b.table), resumeEpoch: strconv.FormatInt(b.epoch, 10), resumeBuilding: resumeNone}
	if b.server != "" {
		positions[resumeServer] = b.server
	}
	for name := range resumes {
		// Every name with a slash is of a topic: the source's, or an internal one.
		if src := b.req.View.Source(); strings.Contains(name, "/") && (src.Kafka == nil || name != resumeTopicID(src.Kafka.Topic)) {
			positions[name] = resumeNone
		}
	}
	if b.req.Partitions > 0 {
		positions[resumePartitions] = strconv.Itoa(b.req.Partitions)
	}
	if src := b.req.View.Source(); src.Kafka != nil {
		for p, next := range b.table.Offsets {
			setMark(positions, src.Kafka.Topic, p, buildSlot, mark{next: next, epoch: b.epoch, server: b.server})
		}
	}
	return positions
}
