// Package files reads and writes tabular files: Parquet, CSV, NDJSON and Arrow.
//
// There are two ways to read one. [OpenSource] reads the history of a source, typed
// by the source's declared columns, and sets rows that cannot be read so aside.
// [OpenSpine] reads the rows of a training request: the columns that the join needs
// in the types it needs, and, in a second pass, every column as the file has it.
//
// Arrow arrays are what columns of any type pass through in; a [Writer] takes
// them and writes any of the formats, under its final name only once it is whole.
// Memory is bounded by a run of rows and a page per column, never by a file.
//
// What the types take, and what is refused, is in docs/semantics.md and below:
//
//   - Narrower integers and floats widen. A 64-bit integer is taken for a float64
//     if the value is exact, else its row is bad. Nothing else changes type.
//   - Dates are their midnight in UTC; timestamps without a zone are UTC; what is
//     finer than a microsecond is floored. Parquet's INT96 is read as microseconds.
//   - Decimals, times of day, structs and maps are no feature types: a source that
//     declares such a column is refused. In a spine they pass through.
//   - Parquet that is compressed with LZ4_RAW or encrypted is refused.
package files
