package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
)

// MismatchReason is the stable code of why values online are not those of the offline store.
type MismatchReason string

// The reasons.
const (
	ReasonCorruptRecord   MismatchReason = "corrupt_record"   // it cannot be read
	ReasonNoRecord        MismatchReason = "no_record"        // what was applied of the entity is gone
	ReasonNotStreamed     MismatchReason = "not_streamed"     // an event of the log that the stream has not applied yet
	ReasonNotMaterialized MismatchReason = "not_materialized" // a row of a file that no materialize has taken yet
	ReasonLateEvent       MismatchReason = "late_event"       // as not_streamed and not_materialized, of an event older than the newest that is applied
	ReasonMissingRow      MismatchReason = "missing_row"      // the record is of a row that the log has not
	ReasonOlderRow        MismatchReason = "older_row"        // a newer row was applied, and the record is of an older one
	ReasonLostEvent       MismatchReason = "lost_event"       // an event was applied, and the record has not got it
	ReasonCountedTwice    MismatchReason = "counted_twice"    // an event is in the record twice
	ReasonOldEpoch        MismatchReason = "old_epoch"        // the record is of before its view was built anew
	ReasonOtherValue      MismatchReason = "other_value"      // the record is of the same rows, and has other values
)

// Bounds on what is read to find the reason of a mismatch, and on how many are looked for.
const (
	explainedRows     = 10_000 // of one entity
	searchedRows      = 500    // for one that is missing, or there twice
	explainedEntities = 200
)

// explain finds the reasons of differences in the rows that the offline store has of their entities.
func (v *verifier) explain(ctx context.Context, suspects []suspect) error {
	if len(suspects) == 0 {
		return nil
	}
	v.counts.Mismatched = len(suspects)
	rows, err := v.rowsOf(ctx, suspects)
	if err != nil {
		return err
	}
	for i := range suspects {
		s := &suspects[i]
		m := Mismatch{View: v.view.String(), Entity: v.label(s.keys), Instant: feature.FormatTimestamp(s.instant), Features: s.differences}
		m.Reason, m.Message = v.reason(s, rows[string(s.entity)])
		if m.Reason == "" { // the record is ahead of the log
			v.counts.Ahead++
			v.counts.Mismatched--
			continue
		}
		v.mismatches = append(v.mismatches, m)
	}
	return nil
}

// rowsOf reads the rows of entities up to their instants, oldest first; of one with too many rows, none.
func (v *verifier) rowsOf(ctx context.Context, suspects []suspect) (map[string]*feature.Batch, error) {
	rows := map[string]*feature.Batch{}
	instants := map[string]int64{}
	for _, s := range suspects[:min(len(suspects), explainedEntities)] {
		rows[string(s.entity)] = feature.NewBatch(v.view.Fields(), 0)
		instants[string(s.entity)] = s.instant
	}
	nkeys := len(v.view.JoinKeys())
	var key []byte
	for batch, err := range v.off.Scan(ctx, v.view, offline.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		for i := range batch.Rows {
			key, _ = feature.AppendKeyRow(key[:0], batch.Columns[:nkeys], i)
			own := rows[string(key)]
			switch {
			case own == nil || batch.Versions[i].EventTime > instants[string(key)]:
			case own.Rows == explainedRows:
				delete(rows, string(key))
			default:
				own.AppendRow(batch, i)
			}
		}
	}
	return rows, nil
}

// reason says why an entity's values differ; "" where its record has what is not in the log yet.
func (v *verifier) reason(s *suspect, rows *feature.Batch) (MismatchReason, string) {
	if v.view.View.Windowed() {
		return v.windowReason(s, rows)
	}
	return v.rowReason(s)
}

// rowReason compares the record of a newest row with the row that the join found.
func (v *verifier) rowReason(s *suspect) (MismatchReason, string) {
	pending := v.pending(s.version, 0)
	if s.record == nil {
		if pending != "" {
			return pending, "there is no record, and " + v.describe(s.version) + " is not applied yet"
		}
		return ReasonNoRecord, "there is no record, though " + v.describe(s.version) + " was applied: it was lost, or removed"
	}
	version, err := rowcodec.Version(s.record)
	if err == nil {
		_, err = rowcodec.For(v.view).Open(s.record)
	}
	if err != nil {
		return ReasonCorruptRecord, "the record cannot be read: " + err.Error()
	}
	c := version.Compare(s.version)
	if s.found == feature.NotFound {
		c = 1
	}
	switch {
	case c > 0 && v.ahead(version):
		return "", ""
	case c > 0:
		return ReasonMissingRow, "the record is of " + v.describe(version) + ", which the log has not"
	case c < 0 && pending != "":
		return pending, v.describe(s.version) + " is newer than the record, and not applied yet"
	case c < 0:
		return ReasonOlderRow, "the record is of " + v.describe(version) + ", though the newer " + v.describe(s.version) + " was applied"
	}
	return ReasonOtherValue, "the record is of " + v.describe(version) + ", and has other values than that: another definition made it, or something else wrote it"
}

// windowReason recomputes the windows of a record from the rows that it has applied.
func (v *verifier) windowReason(s *suspect, rows *feature.Batch) (MismatchReason, string) {
	var epoch, offset int64
	if s.record != nil {
		var err error
		var state []byte
		if epoch, offset, state, err = rowcodec.ForWindows(v.view).Decode(s.record); err != nil || slices.ContainsFunc(s.served, invalid) && v.damaged(state) {
			return ReasonCorruptRecord, fmt.Sprintf("the record cannot be read: %v", orDamaged(err))
		}
		if now, err := strconv.ParseInt(v.resumes["epoch"], 10, 64); err == nil && epoch < now {
			return ReasonOldEpoch, fmt.Sprintf("the record is of epoch %d, and the view was built anew as of epoch %d", epoch, now)
		}
		if v.aheadOfLog(rows, offset) {
			return "", ""
		}
	}
	if rows == nil {
		return ReasonOtherValue, fmt.Sprintf("the entity has more than %d rows, or there are more than %d mismatches: nothing was looked up of it", explainedRows, explainedEntities)
	}
	plan, err := window.ForView(v.view.View)
	if err != nil {
		return ReasonOtherValue, err.Error()
	}
	w := &recomputed{v: v, s: s, plan: plan, rows: rows}
	first, applied := -1, func(i int) bool { return v.pending(rows.Versions[i], offset) == "" }
	newest := feature.MinTimestamp
	for i, version := range rows.Versions {
		if applied(i) {
			newest = max(newest, version.EventTime)
		} else if first < 0 {
			first = i
		}
	}
	if first >= 0 && w.equal(applied, -1) {
		version := rows.Versions[first]
		if version.EventTime < newest {
			return ReasonLateEvent, v.describe(version) + " came late, and is not applied yet"
		}
		return v.pending(version, offset), v.describe(version) + " is not applied yet"
	}
	if i := w.behind(applied); i >= 0 {
		return ReasonNotStreamed, v.describe(rows.Versions[i]) + " is not applied yet"
	}
	if s.record == nil {
		return ReasonNoRecord, fmt.Sprintf("there is no record, though %d events were applied: it was lost, or removed", rows.Rows)
	}
	if rows.Rows <= searchedRows {
		for i, version := range rows.Versions {
			if !applied(i) {
				continue
			}
			if w.equal(func(j int) bool { return j != i && applied(j) }, -1) {
				return ReasonLostEvent, "the record has not got " + v.describe(version) + ", though that was applied"
			}
			if w.equal(applied, i) {
				return ReasonCountedTwice, "the record has " + v.describe(version) + " twice"
			}
		}
	}
	return ReasonOtherValue, fmt.Sprintf("the record, of epoch %d and offset %d, has other values than the %d rows that it was made of", epoch, offset, rows.Rows)
}

func invalid(v VerifiedValue) bool { return v.Status == feature.StatusInvalid }

// damaged reports whether a state cannot be decoded.
func (v *verifier) damaged(state []byte) bool {
	plan, err := window.ForView(v.view.View)
	if err == nil {
		_, err = plan.Decode(state)
	}
	return err != nil
}

func orDamaged(err error) error {
	if err == nil {
		return window.ErrCorrupt
	}
	return err
}

// recomputed computes windows of chosen rows of one entity.
type recomputed struct {
	v       *verifier
	s       *suspect
	plan    *window.Plan
	rows    *feature.Batch
	scratch window.Scratch
	values  []feature.Value
}

// equal reports whether the rows that are taken, one of them twice unless that is -1, give what was served.
func (w *recomputed) equal(take func(row int) bool, twice int) bool {
	state := &window.State{}
	inputs := w.rows.Columns[len(w.v.view.JoinKeys()):]
	for i, version := range w.rows.Versions {
		row := window.Row{Version: version, Columns: inputs, Index: i}
		if take(i) {
			w.plan.Add(state, row)
		}
		if i == twice {
			w.plan.Add(state, row)
		}
	}
	var found bool
	w.values, found = w.plan.Values(state, w.s.instant, &w.scratch, w.values[:0])
	for output, served := range w.s.served {
		value := w.values[w.v.feature(output)]
		status := feature.StatusOf(value)
		if !found {
			status = feature.NotFound
		}
		made := served
		made.Value.Value, made.Status = value, status
		if !w.v.same(output, served, made) {
			return false
		}
	}
	return true
}

// behind is the first row that is not applied of a view that is fed by an internal topic, whose records do not say how
// far they are in the source's own: what they lack are then the rows that were learned last. -1 if that is not so.
func (w *recomputed) behind(applied func(row int) bool) int {
	if w.v.direct() || w.v.view.Source().Kafka == nil {
		return -1
	}
	order := make([]int, 0, w.rows.Rows) // the last first
	for i := range w.rows.Rows {
		if applied(i) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(w.rows.Versions[b].IngestedAt, w.rows.Versions[a].IngestedAt) })
	lacks := map[int]bool{}
	for _, i := range order[:min(len(order), searchedRows)] {
		lacks[i] = true
		if w.equal(func(j int) bool { return applied(j) && !lacks[j] }, -1) {
			return i
		}
	}
	return -1
}

// pending says why a row is not online yet; "" where it should be. offset is that of a windowed view's record.
func (v *verifier) pending(version feature.Version, offset int64) MismatchReason {
	if version.Minor >= filesSince {
		if v.view.View.Windowed() && v.view.Source().Kafka != nil {
			if epoch, err := strconv.ParseInt(v.resumes["epoch"], 10, 64); err != nil || version.Minor > epoch {
				return ReasonNotMaterialized
			}
			return ""
		}
		if v.resumes["offline"] != v.table.Snapshot {
			return ReasonNotMaterialized
		}
		return ""
	}
	switch {
	case v.direct() && offset > 0 && version.Minor >= offset:
		return ReasonNotStreamed
	case v.direct() && offset > 0:
		return ""
	case v.view.View.Windowed() && !v.direct(): // its offsets are those of an internal topic
		return ""
	}
	next, err := strconv.ParseInt(v.resumes[v.view.Source().Kafka.Topic+"/"+strconv.FormatInt(version.Major, 10)], 10, 64)
	if err != nil || version.Minor >= next {
		return ReasonNotStreamed
	}
	return ""
}

// direct reports whether the view's windows are fed by the source's own topic, whose offsets its records then have.
func (v *verifier) direct() bool {
	kafka := v.view.Source().Kafka
	if !v.view.View.Windowed() || kafka == nil || len(kafka.Key) == 0 {
		return false
	}
	for _, name := range kafka.Key {
		if !slices.ContainsFunc(v.view.JoinKeys(), func(f feature.Field) bool { return f.Name == name }) {
			return false
		}
	}
	return true
}

// ahead reports whether a row of a topic is not in the log yet: rows are online some seconds before.
func (v *verifier) ahead(version feature.Version) bool {
	return version.Minor < filesSince && v.view.Source().Kafka != nil && version.Minor >= v.log.Offsets[int32(version.Major)] //nolint:gosec // a partition
}

// aheadOfLog reports whether a windowed record has applied events that are not in the log yet.
func (v *verifier) aheadOfLog(rows *feature.Batch, offset int64) bool {
	if !v.direct() || offset == 0 {
		return false
	}
	if rows != nil {
		for _, version := range rows.Versions {
			if version.Minor < filesSince {
				return offset > v.log.Offsets[int32(version.Major)] //nolint:gosec // a partition
			}
		}
	}
	for _, next := range v.log.Offsets { // the partition is not known
		if offset <= next {
			return false
		}
	}
	return true
}

// describe says where a row came from.
func (v *verifier) describe(version feature.Version) string {
	at := feature.FormatTimestamp(version.EventTime)
	if version.Minor >= filesSince {
		return fmt.Sprintf("the row of %s (row %d of what was taken in at %s)", at, version.Major, feature.FormatTimestamp(version.Minor))
	}
	topic := v.view.Source().Name
	if k := v.view.Source().Kafka; k != nil {
		topic = k.Topic
	}
	return fmt.Sprintf("the row of %s (%s/%d offset %d)", at, topic, version.Major, version.Minor)
}
