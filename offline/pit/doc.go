// Package pit is the point-in-time engine: it finds, for each row of a spine,
// the newest row of an entity at or before an instant.
//
// It is pure. Rows are handed in as sorted runs ([Cursor]): what a store reads
// from one file of one bucket. The spine, sorted the same way, is walked beside
// each run ([Find]), so the cost is linear in what is read, and a store may
// leave out what it knows to have no key of the spine. Several runs of one
// bucket need no merge: each offers its newest row, and the newest of those
// stays ([Found.Offer]).
//
//	spine   (a,5) (a,9) (c,2)            sorted by (key, instant)
//	run     (a,1) (a,7) (b,3) (c,2)      sorted by (key, version)
//	        (a,5)->(a,1)  (a,9)->(a,7)  (c,2)->(c,2)
//
// Values are not its business: matches are reported by row number, block by
// block in rising order, and the store copies the columns it was asked for,
// from the blocks that have a match.
package pit
