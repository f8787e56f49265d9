// Package joinsql writes the point-in-time join of a training dataset as SQL for other engines, which
// read the same tables (docs/datasets.md): DuckDB, ClickHouse, Spark and Trino.
//
// The query is exact, not an approximation of the join: of rows with one event time the one with the
// greatest (ingested_at, sequence) counts, both ends of the ttl are inclusive, rows
// that became known after known_at do not exist, and every row of the spine comes back once, in the
// spine's order, nulls and duplicates too.
//
// DuckDB and ClickHouse have ASOF joins: of the rows of one key and event time all but the newest are
// left out, and the rest is joined by time. Spark and Trino have not: the spine's rows and the view's are
// put into one list, ordered by key, time and version, in which each row of the spine sees the
// last row of the view before it.
package joinsql
