// Package window aggregates events over windows of event time: one library for
// the stream, for backfills, for training sets and for lookups, so that all of
// them give the same value.
//
// A window of length w at instant T holds the events with a time in
// (floor(T-w, hop), T]: exact at the head, aligned to the hop at the tail.
//
// A [State] is what one entity has seen. It keeps events not one by one but in
// tiles: the events of an interval (s, s+g] merged into one accumulator per
// group of inputs. Young events lie in fine tiles, old ones in coarse ones; a
// fine tile is merged into the coarse one around it as soon as every window
// that could tell them apart has passed it. So each event is in exactly one
// tile, however late it came:
//
//	30d window, hop 1d   ├──────────────────────────────────────────────────┤T
//	 7d window, hop 1h                          ├───────────────────────────┤
//	 1h window, hop 1m                                                   ├──┤
//	tiles            │   1d   │   1d   │   1d   │1h│1h│1h│1h│1h│1h│1h│1h│1h││││││
//
// Every partial state merges in any order to the same bits: sums are exact (see
// [Exact]), minima and maxima follow a total order, first and last follow the
// version order of rows. Nothing here reads a clock or does I/O.
package window
