package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
)

// appended is a row of the appends table: one append, and what the log holds with it.
type appended struct {
	source string
	number uint64    // from 1, one more for each append of the source
	append uuid.UUID // of the rows it brought
	log    uuid.UUID // the first append of the log, by which it is told from one that was dropped
	rows   uint64
	bytes  uint64
	file   bool
	name   string
	hash   string
	at     int64 // its instant
	ranges map[int32]offline.OffsetRange

	// What the log holds, this append included.
	totalRows, totalBytes, files uint64
	newest                       int64
	lastInstant                  int64 // of an append from a file
	topic                        string
	next                         map[int32]int64
	chain, chainTimed            string
}

var appendsColumns = []tableColumn{
	{"source", "String", ""}, {"number", "UInt64", "from 1, one more for each append to the source's log"},
	{"append", "UUID", "of the rows it brought"}, {"log", "UUID", "the log's first append"},
	{"format_version", "UInt16", ""},
	{"rows", "UInt64", ""}, {"bytes", "UInt64", "of values, before compression"},
	{"is_file", "Bool", "from a file or a push; else from Kafka"}, {"file_name", "String", ""}, {"file_hash", "String", "SHA-256 in hex; empty: a push"},
	{"appended_at", "Int64", micros},
	{"partitions", "Array(Int32)", "of Kafka, with rows or dead letters in this append"}, {"from_offsets", "Array(Int64)", ""}, {"to_offsets", "Array(Int64)", "exclusive"},
	{"total_rows", "UInt64", "this append included, as all that follow"}, {"total_bytes", "UInt64", ""}, {"total_files", "UInt64", ""},
	{"newest", "Int64", "greatest event time, " + micros}, {"last_file_at", "Int64", micros}, {"topic", "String", ""},
	{"next_partitions", "Array(Int32)", ""}, {"next_offsets", "Array(Int64)", "the first the log does not hold"},
	{"chain", "String", "what was appended (docs/format/offline-log.md)"}, {"chain_timed", "String", "and when"},
}

// appendsEngine orders rows that claim one number: the first to arrive has it. The window of
// deduplication is what makes the second not arrive at all.
const appendsEngine = "MergeTree ORDER BY (source, number) SETTINGS non_replicated_deduplication_window = 10000"

func (s *Store) createAppends(ctx context.Context) error {
	cs := append(slices.Clone(appendsColumns), tableColumn{"committed_at", "DateTime64(6, 'UTC') DEFAULT now64(6)", "by the server's clock"})
	have := cs[len(cs)-1]
	have.kind = "DateTime64(6, 'UTC')"
	return s.client.createAs(ctx, s.project+"/appends", append(slices.Clone(appendsColumns), have), cs, appendsEngine, false)
}

// head is a log's last append; nil if there is none.
func (s *Store) head(ctx context.Context, src *registry.Source) (*appended, error) {
	return s.appendedWhere(ctx, "source = "+text(src.Name))
}

// winner is the append that has a number; nil if it is free.
func (s *Store) winner(ctx context.Context, src *registry.Source, number uint64) (*appended, error) {
	return s.appendedWhere(ctx, "source = "+text(src.Name)+" AND number = "+strconv.FormatUint(number, 10))
}

func (s *Store) appendedWhere(ctx context.Context, where string) (*appended, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	var a appended
	var version uint16
	var parts, nextParts []int32
	var from, to, next []int64
	dest := []any{&a.source, &a.number, &a.append, &a.log, &version, &a.rows, &a.bytes, &a.file, &a.name, &a.hash, &a.at, &parts, &from, &to,
		&a.totalRows, &a.totalBytes, &a.files, &a.newest, &a.lastInstant, &a.topic, &nextParts, &next, &a.chain, &a.chainTimed}
	ok, err := s.client.one(ctx, "SELECT "+names(appendsColumns)+" FROM "+s.appendsTable()+" WHERE "+where+" ORDER BY number DESC, committed_at, append LIMIT 1", dest...)
	if err != nil || !ok {
		return nil, err
	}
	if version > formatVersion {
		return nil, fmt.Errorf("%s: table %s has format version %d, this Forebay knows %d: use a newer one", s.client.addr, s.appendsTable(), version, formatVersion)
	}
	a.ranges, a.next = map[int32]offline.OffsetRange{}, map[int32]int64{}
	for i, p := range parts {
		a.ranges[p] = offline.OffsetRange{From: from[i], To: to[i]}
	}
	for i, p := range nextParts {
		a.next[p] = next[i]
	}
	return &a, nil
}

// claim inserts an append's row under its number, unless somebody else has it already.
func (s *Store) claim(ctx context.Context, a *appended) error {
	parts := slices.Sorted(maps.Keys(a.ranges))
	nextParts := slices.Sorted(maps.Keys(a.next))
	from, to, next := []int64{}, []int64{}, []int64{}
	for _, p := range parts {
		from, to = append(from, a.ranges[p].From), append(to, a.ranges[p].To)
	}
	for _, p := range nextParts {
		next = append(next, a.next[p])
	}
	token := a.source + "/" + strconv.FormatUint(a.number, 10)
	return s.client.insert(ctx, s.appendsTable(), appendsColumns, token, func(b driver.Batch) error {
		return b.Append(a.source, a.number, a.append, a.log, uint16(formatVersion), a.rows, a.bytes, a.file, a.name, a.hash, a.at, parts, from, to,
			a.totalRows, a.totalBytes, a.files, a.newest, a.lastInstant, a.topic, nextParts, next, a.chain, a.chainTimed)
	})
}

// follow makes the row of an append that follows the log's state, or says why it does not.
func (a *appended) follow(head *appended, src *registry.Source, o offline.Origin, rowsNewest int64) error {
	a.number, a.log = 1, a.append
	if head == nil {
		head = &appended{}
	} else {
		a.number, a.log = head.number+1, head.log
	}
	a.totalRows, a.totalBytes, a.files = head.totalRows+a.rows, head.totalBytes+a.bytes, head.files
	a.lastInstant, a.topic, a.next = head.lastInstant, head.topic, maps.Clone(head.next)
	a.chain, a.chainTimed = head.chain, head.chainTimed
	if a.newest = head.newest; a.rows > 0 && (head.totalRows == 0 || rowsNewest > head.newest) {
		a.newest = rowsNewest
	}
	if a.next == nil {
		a.next = map[int32]int64{}
	}
	if o.File != nil {
		a.name, a.hash = o.File.Name, o.File.Hash
		a.files++
		a.lastInstant = max(a.lastInstant, a.at)
		a.chain, a.chainTimed = offline.ChainFile(a.chain, a.chainTimed, src, *o.File, int64(a.rows), a.at)
		return nil
	}
	if a.topic != "" && o.Topic != a.topic {
		return fmt.Errorf("the log holds offsets of topic %s; rows of topic %s belong in the log of another source", a.topic, o.Topic)
	}
	a.topic, a.ranges = o.Topic, o.Offsets
	for p, r := range o.Offsets {
		if n, ok := a.next[p]; ok && r.From != n {
			return fmt.Errorf("%w: topic %s, partition %d: offsets [%d, %d) do not follow the log, which ends before %d", offline.ErrConflict, o.Topic, p, r.From, r.To, n)
		}
		if r.To < r.From {
			return fmt.Errorf("topic %s, partition %d: offsets [%d, %d)", o.Topic, p, r.From, r.To)
		}
		a.next[p] = r.To
	}
	return nil
}

// snapshot names a state of a log, and of what is derived from it.
func snapshot(log uuid.UUID, number uint64) string {
	return log.String() + "." + strconv.FormatUint(number, 10)
}

// numberOf is the number of a snapshot of this log.
func numberOf(log uuid.UUID, snapshot string) (uint64, bool) {
	id, n, ok := strings.Cut(snapshot, ".")
	if !ok || id != log.String() {
		return 0, false
	}
	number, err := strconv.ParseUint(n, 10, 64)
	return number, err == nil
}

// content is what the log holds, without and with instants.
func (a *appended) content() (content, timed string) {
	return offline.LogContent(a.chain, a.topic, a.next), offline.LogContent(a.chainTimed, a.topic, a.next)
}
