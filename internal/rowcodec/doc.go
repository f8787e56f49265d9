// Package rowcodec encodes the record that the online store keeps for one
// entity of one generation of a view: the newest row's features and its version, or
// the state of its windows.
//
// A [Codec] is compiled once per generation and then encodes rows of columns and
// decodes chosen features of a record straight into columns, without looking at
// the others. The bytes (docs/format/record.md; integers are little-endian
// except for the order, which sorts):
//
//	 0      1                          33      34
//	+------+--------------------------+-------+--------+----------+-------+
//	| kind | order (version), 32 bytes| flags | nulls? | invalid? | bools |
//	+------+--------------------------+-------+--------+----------+-------+
//	| words: 8 bytes for each int64, float64 and timestamp that is there  |
//	+---------------------+-----------------------------------------------+
//	| ends: 2 or 4 bytes  | texts: strings, bytes, lists and embeddings   |
//	| for each text       | that are there, one after another             |
//	+---------------------+----------------------------------+------------+
//	                                                         | CRC-32C, 4 |
//	                                                         +------------+
//
// Features stand in an order of their own (by class: words, bools, texts; then
// by name), so that the order of the declaration does not matter. Bitmaps have
// one bit per feature in that order; a bitmap without a bit set is left out. A
// value that is null takes no room but its bit.
//
// The checksum starts from one of the project, the view, its generation and its
// features: a record that is cut off, altered, or of something else than it is
// read as gives an error, never a wrong number. Fifty float64 take 438 bytes (444
// at most, with one invalid), so that Redis allocates for them what it allocates
// for a bare string of 400 bytes.
//
// The first byte says what kind of record it is: the newest row (1), or what an
// entity of a windowed view has seen (3; integers are big-endian, so that a store
// orders such records by epoch and offset):
//
//	 0      1         9          17
//	+------+---------+----------+-----------------------------+-----------+
//	| kind | epoch 8 | offset 8 | state (materialize/window)  | CRC-32C 4 |
//	+------+---------+----------+-----------------------------+-----------+
package rowcodec
