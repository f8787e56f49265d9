package materialize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Batch brings the online store up to date from the offline one. Its methods are safe for concurrent use.
type Batch struct {
	Tables Tables
	Online Online
	// Log, if set, is asked for the offsets that a derived table holds at least, so
	// that a stream goes on from there.
	Log Log
	// Rows is the number of rows written at once. Default 5,000.
	Rows int
	// Writes is the number of such writes under way at once. Default 4.
	Writes int
	// Retry is used when a store is unavailable. Default: a Limit of a minute.
	Retry Backoff
	// Progress, if set, hears from time to time, from one goroutine at a time.
	Progress func(BatchProgress)
}

// BatchProgress is how far a Run is.
type BatchProgress struct {
	View    registry.ViewGeneration
	Done    int64         // rows read
	Total   int64         // rows of the table, of which only the new ones are read
	Elapsed time.Duration // since the start of the Run
}

// Rate is the rows read per second.
func (p BatchProgress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Done) / p.Elapsed.Seconds()
}

// BatchRequest says what to bring up to date.
type BatchRequest struct {
	View registry.ViewGeneration
	// From and To restrict it to event times, both inclusive, in microseconds. A
	// restricted run does not move the resume point, and makes nothing live.
	From, To *int64
	// Overwrite reads the whole table and replaces what is there whatever its version. Windows are
	// built anew even if they are of the table as it is.
	Overwrite bool
	// Beside leaves another generation live that is: a stream makes this one live when it has caught up.
	Beside bool
	// Beyond, of windows, is an epoch that records were seen to have: the build's is later.
	Beyond int64
	// Partitions, if known, is the number of partitions that the source's topic has.
	Partitions int
}

// BatchResult is what a Run did.
type BatchResult struct {
	Rows     int64 // read
	Applied  int64 // written
	Stale    int64 // not written: the online store had them, or newer ones
	Snapshot string
	WentLive bool // the generation was not live before
	Elapsed  time.Duration
}

const (
	defaultBatchRows   = 5000
	defaultBatchWrites = 4
)

// Run brings one view generation up to date. Rows that the online store has are not
// written again, so a Run that was killed is completed by running it again: the
// resume point moves only when everything before it is written. The states of a windowed view are
// built anew as a whole, unless they are of the table as it is already.
func (b *Batch) Run(ctx context.Context, req BatchRequest) (BatchResult, error) {
	r := batchRun{Batch: b, req: req, start: time.Now()}
	if err := r.run(ctx); err != nil {
		return r.result, fmt.Errorf("materialize %s: %w", req.View, err)
	}
	r.result.Elapsed = time.Since(r.start)
	return r.result, nil
}

type batchRun struct {
	*Batch
	req    BatchRequest
	start  time.Time
	total  int64
	result BatchResult
}

func (r *batchRun) retry(ctx context.Context, op func(context.Context) error) error {
	b := r.Retry
	if b.Limit == 0 {
		b.Limit = time.Minute
	}
	return b.do(ctx, nil, op)
}

func (r *batchRun) run(ctx context.Context) error {
	v := r.req.View
	whole := r.req.From == nil && r.req.To == nil
	resumes, err := r.resumes(ctx)
	if err != nil {
		return err
	}
	if v.View.Windowed() {
		return r.runWindows(ctx, resumes)
	}
	server, err := r.takesWrites(ctx)
	if err != nil {
		return err
	}
	// Before the refresh: what the log holds now, the table holds then.
	positions, err := r.streamPositions(ctx, resumes, server)
	if err != nil {
		return err
	}
	table, err := r.refresh(ctx)
	if err != nil {
		return err
	}

	since := ""
	if at, ok := resumes[resumeOffline]; ok && at != resumeNone && whole && !r.req.Overwrite {
		since = at
	}
	if table.Snapshot != "" && (since == "" || since != table.Snapshot) {
		// A scan that breaks off starts again: what it wrote is stale then.
		if err := r.retry(ctx, func(ctx context.Context) error {
			r.result.Rows, r.result.Applied, r.result.Stale = 0, 0, 0
			return r.scan(ctx, ScanOptions{Since: since, From: r.req.From, To: r.req.To})
		}); err != nil {
			return err
		}
	}
	if !whole {
		return nil
	}
	positions[resumeOffline] = snapshotName(table)
	if err := r.retry(ctx, func(ctx context.Context) error {
		return r.Online.SetResumes(ctx, v, positions)
	}); err != nil {
		return fmt.Errorf("store the resume points: %w", err)
	}
	return r.goLive(ctx)
}

func (r *batchRun) resumes(ctx context.Context) (resumes map[string]string, err error) {
	err = r.retry(ctx, func(ctx context.Context) (err error) {
		resumes, err = r.Online.Resumes(ctx, r.req.View)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the resume points: %w", err)
	}
	return resumes, nil
}

// refresh brings the derived table up to date.
func (r *batchRun) refresh(ctx context.Context) (table TableState, err error) {
	err = r.retry(ctx, func(ctx context.Context) (err error) {
		table, err = r.Tables.Refresh(ctx, r.req.View)
		return err
	})
	if err != nil {
		return table, fmt.Errorf("refresh the derived table: %w", err)
	}
	r.total, r.result.Snapshot = table.Rows, table.Snapshot
	return table, nil
}

// takesWrites names who takes the online store's writes.
func (r *batchRun) takesWrites(ctx context.Context) (server string, err error) {
	err = r.retry(ctx, func(ctx context.Context) (err error) {
		server, err = r.Online.Server(ctx)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ask who takes the online store's writes: %w", err)
	}
	return server, nil
}

// streamPositions are the offsets that the log holds, where they are beyond
// those that the stream has applied, or those are not certain.
func (r *batchRun) streamPositions(ctx context.Context, resumes map[string]string, server string) (map[string]string, error) {
	positions := map[string]string{}
	src := r.req.View.Source()
	if r.Log == nil || src.Kafka == nil {
		return positions, nil
	}
	var offsets map[int32]int64
	if err := r.retry(ctx, func(ctx context.Context) (err error) {
		offsets, err = r.Log.Offsets(ctx, src)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read the log's offsets: %w", err)
	}
	applied, err := streamResumes(src.Kafka.Topic, resumes)
	if err != nil {
		return nil, err
	}
	for p, next := range offsets {
		have := applied[p]
		if have == nil {
			have = &partitionResume{}
		}
		if at, slot, ok := have.start(0, server); !ok || at < next {
			setMark(positions, src.Kafka.Topic, p, slot, mark{next: next, server: server})
		}
	}
	return positions, nil
}

func (r *batchRun) goLive(ctx context.Context) error {
	v := r.req.View
	err := r.retry(ctx, func(ctx context.Context) error {
		live, err := r.Online.Live(ctx)
		if err != nil || live[v.View.Name] == v.Number || r.req.Beside && live[v.View.Name] != 0 {
			return err
		}
		if err := r.Online.SetLive(ctx, v); err != nil {
			return err
		}
		live, err = r.Online.Live(ctx)
		r.result.WentLive = live[v.View.Name] == v.Number
		return err
	})
	if err != nil {
		return fmt.Errorf("make the generation live: %w", err)
	}
	return nil
}

// scan writes the newest row of each entity key of the scanned rows.
func (r *batchRun) scan(ctx context.Context, o ScanOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fields := r.req.View.Fields()
	w := rowWriter{run: r, carry: feature.NewBatch(fields, 1),
		writers: newWriters(ctx, cancel, r, func() *feature.Batch { return feature.NewBatch(fields, r.rows()) }, r.writeRows)}
	w.out = w.next()
	err := w.fill(ctx, o)
	if writeErr := w.finish(); writeErr != nil {
		return writeErr
	}
	return err
}

func (r *batchRun) rows() int {
	if r.Rows > 0 {
		return r.Rows
	}
	return defaultBatchRows
}

func (r *batchRun) writeRows(ctx context.Context, rows *feature.Batch) (applied, stale int, err error) {
	defer rows.Reset()
	err = r.retry(ctx, func(ctx context.Context) (err error) {
		applied, stale, err = r.Online.Write(ctx, r.req.View, rows, r.req.Overwrite)
		return err
	})
	return applied, stale, err
}

// rowWriter collects the newest rows of entity keys into batches.
type rowWriter struct {
	*writers[*feature.Batch]
	run *batchRun

	out       *feature.Batch // being filled
	carry     *feature.Batch // the newest row so far of the last entity key seen
	carryKey  []byte
	keyBuffer [2][]byte
}

func (w *rowWriter) fill(ctx context.Context, o ScanOptions) error {
	keys := len(w.run.req.View.JoinKeys())
	for rows, err := range w.run.Tables.Scan(ctx, w.run.req.View, o) {
		if err != nil {
			return fmt.Errorf("scan the derived table: %w", err)
		}
		if err := w.add(rows, keys); err != nil {
			return err
		}
		w.run.read(rows.Rows)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := w.emit(w.carry); err != nil {
		return err
	}
	if w.out.Rows == 0 {
		return nil
	}
	return w.send(w.out)
}

// read counts rows of the derived table.
func (r *batchRun) read(rows int) {
	r.result.Rows += int64(rows)
	if r.Progress != nil {
		r.Progress(BatchProgress{View: r.req.View, Done: r.result.Rows, Total: r.total, Elapsed: time.Since(r.start)})
	}
}

var errNullKey = errors.New("the derived table has a row without an entity key")

// add takes the rows of one batch of the scan: of the rows of one key, which follow
// each other, the last; the batch's last row waits for the next batch.
func (w *rowWriter) add(rows *feature.Batch, keys int) error {
	cols := rows.Columns[:keys]
	for i := range rows.Rows {
		key, ok := feature.AppendKeyRow(w.keyBuffer[i&1][:0], cols, i)
		if !ok {
			return errNullKey
		}
		w.keyBuffer[i&1] = key
		switch {
		case i == 0:
			if w.carry.Rows > 0 && !bytes.Equal(key, w.carryKey) {
				if err := w.emit(w.carry); err != nil {
					return err
				}
			}
			w.carry.Reset()
		case !bytes.Equal(key, w.keyBuffer[i&1^1]):
			if err := w.emitRow(rows, i-1); err != nil {
				return err
			}
		}
	}
	if rows.Rows > 0 {
		w.carry.AppendRow(rows, rows.Rows-1)
		w.carryKey = append(w.carryKey[:0], w.keyBuffer[(rows.Rows-1)&1]...)
	}
	return nil
}

func (w *rowWriter) emit(rows *feature.Batch) error {
	for i := range rows.Rows {
		if err := w.emitRow(rows, i); err != nil {
			return err
		}
	}
	return nil
}

func (w *rowWriter) emitRow(rows *feature.Batch, i int) error {
	w.out.AppendRow(rows, i)
	if w.out.Rows < w.run.rows() {
		return nil
	}
	if err := w.send(w.out); err != nil {
		return err
	}
	w.out = w.next()
	return nil
}
