package joinsql

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Dialect is an engine's SQL.
type Dialect string

// The dialects.
const (
	DuckDB     Dialect = "duckdb"
	ClickHouse Dialect = "clickhouse"
	Spark      Dialect = "spark"
	Trino      Dialect = "trino"
)

// Dialects are all of them, in the order in which they are told to people.
var Dialects = []Dialect{ClickHouse, DuckDB, Spark, Trino}

// Errors of Write, to be tested with errors.Is.
var (
	ErrDialect = errors.New("unknown SQL dialect: want clickhouse, duckdb, spark or trino")
	// ErrWindow: an aggregate of windows for which there is no SQL that gives the same value.
	ErrWindow = errors.New("this feature of windows cannot be given as SQL")
)

// Query is the join to write.
type Query struct {
	Selection *selection.Selection
	Project   string // whose tables they are
	// Spine is the table of the rows to enrich, as the engine calls it; "" for "spine".
	Spine     string
	Timestamp string // the spine's column of the instant, a timestamp
	// Columns are the spine's columns to return, in order.
	Columns []string
	KnownAt *int64 // microseconds; nil hides nothing
	// Tables says where the rows of each role of the selection are.
	Tables []offline.TableFiles
}

// Names of the query's own columns begin so; the spine must have none.
const own = "fb_"

// Write writes a query. On-demand features are not part of it: their expressions are CEL. They are named in
// missing and in a comment.
func Write(d Dialect, q Query) (text string, missing []string, err error) {
	if !slices.Contains(Dialects, d) {
		return "", nil, fmt.Errorf("%q: %w", d, ErrDialect)
	}
	if q.Spine == "" {
		q.Spine = "spine"
	}
	w := &writer{d: d, q: q}
	var outs []selection.Output
	for _, o := range q.Selection.Outputs {
		if o.From.Step >= 0 || o.From.Request >= 0 {
			missing = append(missing, o.Name)
			continue
		}
		outs = append(outs, o)
	}
	w.header(missing)
	w.spine()
	for i, role := range q.Selection.Roles {
		if !slices.ContainsFunc(outs, func(o selection.Output) bool { return o.From.Role == i }) {
			continue // read for on-demand features alone
		}
		switch {
		case role.View.View.Windowed():
			err = w.windows(i)
		case d == DuckDB || d == ClickHouse:
			w.asof(i)
		default:
			w.last(i)
		}
		if err != nil {
			return "", nil, err
		}
	}
	w.result(outs)
	return w.b.String(), missing, nil
}

type writer struct {
	d    Dialect
	q    Query
	b    strings.Builder
	from string   // the step before: the spine's columns, and what roles have added
	have []string // what they have added
}

func (w *writer) f(format string, args ...any) { fmt.Fprintf(&w.b, format, args...) }

// name quotes a name.
func (w *writer) name(s string) string {
	if w.d == Spark || w.d == ClickHouse {
		return "`" + strings.ReplaceAll(s, "`", "``") + "`"
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

func (w *writer) names(ss []string, prefix string) string {
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = prefix + w.name(s)
	}
	return strings.Join(out, ", ")
}

// text quotes a text.
func (w *writer) text(s string) string {
	if w.d == Spark || w.d == ClickHouse {
		s = strings.ReplaceAll(s, `\`, `\\`)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// header says what the query needs.
func (w *writer) header(missing []string) {
	w.f("-- The point-in-time join of a training dataset, for %s.\n", w.d)
	w.f("-- %s is the table of the rows to enrich; %s is a timestamp in UTC", w.q.Spine, w.q.Timestamp)
	for _, k := range w.q.Selection.Keys {
		w.f(", %s is %s", k.Name, k.Type)
	}
	w.f(".\n")
	if len(missing) > 0 {
		w.f("-- Not in it, since they are computed by CEL on demand: %s.\n", strings.Join(missing, ", "))
	}
	switch w.d {
	case Spark:
		w.f("-- Catalog forebay: spark.sql.catalog.forebay=org.apache.iceberg.spark.SparkCatalog, .type=hadoop, .warehouse=<the offline url>.\n")
	case Trino:
		for i, t := range w.q.Tables {
			if t.Snapshot != "" {
				w.f("-- CALL iceberg.system.register_table('%s', '%s', 'file://%s');\n", w.q.Project, w.q.Selection.Roles[i].View, t.Folder)
			}
		}
	}
}

// micros is a timestamp as microseconds since the epoch.
func (w *writer) micros(expr string) string {
	switch w.d {
	case DuckDB:
		return "epoch_us(" + expr + ")"
	case ClickHouse:
		return "toUnixTimestamp64Micro(toDateTime64(" + expr + ", 6, 'UTC'))"
	case Spark:
		return "unix_micros(" + expr + ")"
	}
	// Trino has no such function: milliseconds up to the second, and the microseconds in it.
	return "date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', " + expr + ")) * 1000 + CAST(date_format(" + expr + ", '%f') AS BIGINT)"
}

// spine begins the query: the spine with its order and its instant.
func (w *writer) spine() {
	at := w.micros(w.name(w.q.Timestamp))
	row := "row_number() OVER ()"
	switch w.d {
	case ClickHouse: // an ASOF join takes no null: this instant is before every row
		at = "ifNull(" + at + ", -9223372036854775808)"
		row = "rowNumberInAllBlocks()"
	case Spark:
		row = "monotonically_increasing_id()"
	}
	w.f("WITH s AS (\n  SELECT %s, %s AS %srow, %s AS %sat, 1 AS %sone\n  FROM %s\n)", w.names(w.q.Columns, ""), row, own, at, own, own, w.q.Spine)
	w.from = "s"
}

// table is where the rows of a role are.
func (w *writer) table(i int) string {
	t, v := w.q.Tables[i], w.q.Selection.Roles[i].View
	if t.Name != "" {
		return t.Name
	}
	switch w.d {
	case DuckDB:
		files := make([]string, len(t.Files))
		for k, f := range t.Files {
			files[k] = "\n      " + w.text(f)
		}
		return "read_parquet([" + strings.Join(files, ",") + "])"
	case ClickHouse:
		// Not icebergLocal, which reads one snapshot a query: the views are of several.
		return clickhouseFiles(w, t.Files)
	case Spark:
		return "forebay." + w.name(w.q.Project) + ".views." + w.name(v.String()) + " VERSION AS OF " + t.Snapshot
	}
	return "iceberg." + w.name(w.q.Project) + "." + w.name(v.String()) + " FOR VERSION AS OF " + t.Snapshot
}

// clickhouseFiles reads files; a list of names may not cross folders.
func clickhouseFiles(w *writer, files []string) string {
	names := map[string][]string{}
	for _, f := range files {
		names[path.Dir(f)] = append(names[path.Dir(f)], path.Base(f))
	}
	var parts []string
	for _, dir := range slices.Sorted(maps.Keys(names)) {
		list := strings.Join(names[dir], ",")
		if len(names[dir]) > 1 {
			list = "{" + list + "}"
		}
		parts = append(parts, "file("+w.text(dir+"/"+list)+", Parquet)")
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(SELECT * FROM " + strings.Join(parts, " UNION ALL SELECT * FROM ") + ")"
}

// there reports whether a role's table exists.
func (w *writer) there(i int) bool {
	return w.q.Tables[i].Snapshot != "" || w.q.Tables[i].Name != ""
}

// known restricts rows to those that were known.
func (w *writer) known() string {
	if w.q.KnownAt == nil {
		return ""
	}
	return fmt.Sprintf("\n    WHERE %s <= %d", w.micros("_ingested_at"), *w.q.KnownAt)
}

// column is what a feature of a role is called within the query.
func column(role, i int) string { return fmt.Sprintf("%sr%d_%d", own, role, i) }

// empty adds nulls for a role whose table does not exist.
func (w *writer) empty(i int) {
	role := w.q.Selection.Roles[i]
	w.f(",\nj%d AS (\n  SELECT %s.*, CAST(NULL AS %s) AS %sr%d_at", i, w.from, w.typeName(feature.TypeInt64), own, i)
	w.have = append(w.have, fmt.Sprintf("%sr%d_at", own, i))
	for k, f := range role.Features {
		w.f(", CAST(NULL AS %s) AS %s", w.typeName(role.View.View.Features[f].Type), column(i, k))
		w.have = append(w.have, column(i, k))
	}
	w.f("\n  FROM %s\n)", w.from)
	w.from = fmt.Sprintf("j%d", i)
}

// rowKeys are the columns of a role's keys: in the view's table and in the spine.
func (w *writer) rowKeys(i int) (view, spine []string) {
	role := w.q.Selection.Roles[i]
	for k, f := range role.View.JoinKeys() {
		view, spine = append(view, f.Name), append(spine, w.q.Selection.Keys[role.Keys[k]].Name)
	}
	return view, spine
}

// asof joins a role by an ASOF join.
func (w *writer) asof(i int) {
	if !w.there(i) {
		w.empty(i)
		return
	}
	role := w.q.Selection.Roles[i]
	viewKeys, spineKeys := w.rowKeys(i)
	at := fmt.Sprintf("%sr%d_at", own, i)
	cols, keys := []string{w.micros("event_timestamp") + " AS " + at}, []string{}
	for k, key := range viewKeys {
		keys = append(keys, w.name(key))
		cols = append(cols, fmt.Sprintf("%s AS %sk%d", w.name(key), own, k))
	}
	var added []string
	for k, f := range role.Features {
		cols = append(cols, w.name(role.View.View.Features[f].Name)+" AS "+column(i, k))
		added = append(added, column(i, k))
	}
	w.f(",\nr%d AS ( -- %s: of each entity and event time the newest row\n  SELECT * FROM (\n    SELECT %s, 1 AS %sk,\n", i, role.View, strings.Join(cols, ", "), own)
	w.f("      row_number() OVER (PARTITION BY %s ORDER BY _ingested_at DESC, _sequence_major DESC, _sequence_minor DESC) AS %sn\n", strings.Join(append(keys, "event_timestamp"), ", "), own)
	w.f("    FROM %s%s\n  ) AS versions WHERE %sn = 1\n)", w.table(i), w.known(), own)
	on := []string{fmt.Sprintf("l.%sone = r.%sk", own, own)}
	for k, key := range spineKeys {
		on = append(on, fmt.Sprintf("l.%s = r.%sk%d", w.name(key), own, k))
	}
	on = append(on, fmt.Sprintf("l.%sat >= r.%s", own, at))
	added = append([]string{at}, added...)
	w.f(",\nj%d AS (\n  SELECT %s", i, w.carried("l."))
	for _, a := range added {
		w.f(", r.%s AS %s", a, a)
	}
	w.f("\n  FROM %s AS l ASOF LEFT JOIN r%d AS r ON %s\n)", w.from, i, strings.Join(on, " AND "))
	w.have = append(w.have, added...)
	w.from = fmt.Sprintf("j%d", i)
}

// carried are the columns of the step before, each under its own name: joins of some engines qualify them.
func (w *writer) carried(prefix string) string {
	all := make([]string, 0, len(w.q.Columns)+3+len(w.have))
	for _, c := range w.q.Columns {
		all = append(all, prefix+w.name(c)+" AS "+w.name(c))
	}
	for _, c := range append([]string{own + "row", own + "at", own + "one"}, w.have...) {
		all = append(all, prefix+c+" AS "+c)
	}
	return strings.Join(all, ", ")
}

// last finds a role's rows by a window over the spine's rows and the view's.
func (w *writer) last(i int) {
	if !w.there(i) {
		w.empty(i)
		return
	}
	role := w.q.Selection.Roles[i]
	viewKeys, spineKeys := w.rowKeys(i)
	values := []string{w.micros("event_timestamp")}
	at := values[0]
	for _, f := range role.Features {
		values = append(values, w.name(role.View.View.Features[f].Name))
	}
	record := "named_struct("
	for k, v := range values {
		record += fmt.Sprintf("'c%d', %s, ", k, v)
	}
	record = strings.TrimSuffix(record, ", ") + ")"
	if w.d == Trino {
		record = "ROW(" + strings.Join(values, ", ") + ")"
	}
	// The union: the step before, then the view's rows with nulls for its columns.
	w.f(",\nu%d AS (\n  SELECT %s", i, w.carried(""))
	for k, key := range spineKeys {
		w.f(", %s AS %sk%d", w.name(key), own, k)
	}
	w.f(", %sat AS %st, 1 AS %sside, NULL AS %si, NULL AS %smajor, NULL AS %sminor, NULL AS %sv\n  FROM %s\n  UNION ALL\n  SELECT ", own, own, own, own, own, own, own, w.from)
	for range len(w.q.Columns) + 3 + len(w.have) {
		w.f("NULL, ")
	}
	for _, key := range viewKeys {
		w.f("%s, ", w.name(key))
	}
	w.f("%s, 0, _ingested_at, _sequence_major, _sequence_minor, %s\n  FROM %s%s\n)", at, record, w.table(i), w.known())
	over := []string{}
	for k := range spineKeys {
		over = append(over, fmt.Sprintf("%sk%d", own, k))
	}
	partition := ""
	if len(over) > 0 {
		partition = "PARTITION BY " + strings.Join(over, ", ") + " "
	}
	lastOf := "last(" + own + "v, true)"
	if w.d == Trino {
		lastOf = "last_value(" + own + "v) IGNORE NULLS"
	}
	w.f(",\nm%d AS (\n  SELECT *, %s OVER (%sORDER BY %st NULLS FIRST, %sside, %si, %smajor, %sminor ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS %sm\n  FROM u%d\n)",
		i, lastOf, partition, own, own, own, own, own, own, i)
	w.f(",\nj%d AS (\n  SELECT %s", i, w.carried(""))
	added := []string{fmt.Sprintf("%sr%d_at", own, i)}
	for k := range role.Features {
		added = append(added, column(i, k))
	}
	for k, a := range added {
		if w.d == Trino {
			w.f(", %sm[%d] AS %s", own, k+1, a)
		} else {
			w.f(", %sm.c%d AS %s", own, k, a)
		}
	}
	w.f("\n  FROM m%d WHERE %sside = 1\n)", i, own)
	w.have = append(w.have, added...)
	w.from = fmt.Sprintf("j%d", i)
}

// result ends the query: values that are young enough, under their names, in the spine's order.
func (w *writer) result(outs []selection.Output) {
	w.f("\nSELECT %s", w.names(w.q.Columns, ""))
	for _, o := range outs {
		if o.From.Role < 0 {
			w.f(",\n  CAST(NULL AS %s) AS %s", w.typeName(o.Type), w.name(o.Name))
			continue
		}
		role, value := w.q.Selection.Roles[o.From.Role], column(o.From.Role, o.From.Feature)
		ttl := role.View.View.TTL
		switch {
		case ttl > 0 && w.d == ClickHouse && !o.Type.Kind.Fixed() && o.Type.Kind != feature.String && o.Type.Kind != feature.Bytes:
			// ClickHouse has no null arrays: an empty one takes its place.
			value = fmt.Sprintf("if(%sr%d_at >= %sat - %d, %s, [])", own, o.From.Role, own, int64(ttl), value)
		case ttl > 0:
			value = fmt.Sprintf("CASE WHEN %sr%d_at >= %sat - %d THEN %s END", own, o.From.Role, own, int64(ttl), value)
		}
		w.f(",\n  %s AS %s", value, w.name(o.Name))
	}
	w.f("\nFROM %s\nORDER BY %srow", w.from, own)
	if w.d == ClickHouse {
		w.f("\nSETTINGS join_use_nulls = 1")
	}
	w.f(";\n")
}

// typeName is an engine's name of a type.
func (w *writer) typeName(t feature.Type) string {
	names := map[Dialect]map[feature.Kind]string{
		DuckDB:     {feature.Bool: "BOOLEAN", feature.Int64: "BIGINT", feature.Float64: "DOUBLE", feature.String: "VARCHAR", feature.Bytes: "BLOB", feature.Timestamp: "TIMESTAMP WITH TIME ZONE"},
		ClickHouse: {feature.Bool: "Nullable(Bool)", feature.Int64: "Nullable(Int64)", feature.Float64: "Nullable(Float64)", feature.String: "Nullable(String)", feature.Bytes: "Nullable(String)", feature.Timestamp: "Nullable(DateTime64(6, 'UTC'))"},
		Spark:      {feature.Bool: "BOOLEAN", feature.Int64: "BIGINT", feature.Float64: "DOUBLE", feature.String: "STRING", feature.Bytes: "BINARY", feature.Timestamp: "TIMESTAMP"},
		Trino:      {feature.Bool: "BOOLEAN", feature.Int64: "BIGINT", feature.Float64: "DOUBLE", feature.String: "VARCHAR", feature.Bytes: "VARBINARY", feature.Timestamp: "TIMESTAMP(6) WITH TIME ZONE"},
	}[w.d]
	if n, ok := names[t.Kind]; ok {
		return n
	}
	elem := feature.Type{Kind: t.Elem}
	if t.Kind == feature.Embedding {
		elem = feature.TypeFloat64
	}
	switch w.d {
	case DuckDB:
		return w.typeName(elem) + "[]"
	case ClickHouse:
		return "Array(" + w.typeName(elem) + ")"
	case Spark:
		return "ARRAY<" + w.typeName(elem) + ">"
	}
	return "ARRAY(" + w.typeName(elem) + ")"
}
