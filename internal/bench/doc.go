// Package bench drives load at something that answers requests and measures
// what its clients see. It is what `forebay bench` works with.
//
// A load is closed or open. In a closed one each connection sends the next
// request when the last is answered: it finds out how much can be answered, but
// not how long people wait, for a server that stalls is asked nothing meanwhile.
// In an open one requests fall due at a fixed rate whatever the server does, and
// the time of each counts from when it was due, not from when a connection was
// free to send it: what is late because others were late is late (the correction
// of "coordinated omission" that Gil Tene's wrk2 made known).
//
// Latencies are kept in an HDR histogram of three significant digits, from a
// microsecond to a minute.
package bench
