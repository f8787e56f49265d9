// Package feature is Forebay's leaf vocabulary: the types and values of
// features, columns of them, the versions rows carry, and the key of an entity.
//
// Everything that moves rows (ingestion, the stream, the point-in-time join,
// lookups) passes them as a [Batch]: one [Column] per field and one [Version]
// per row. A [Value] is a single cell, used where a row is looked at by itself.
//
// It imports the standard library only, so that any package may import it.
package feature
