package materializetest

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Generator makes random events that are hard on windows: mostly of now, also late, older than every window, of the
// very same time as another, at the edge of a hop; with nulls, and with amounts that overflow a sum.
type Generator struct {
	Rand  *rand.Rand
	Clock int64 // event time in microseconds, which goes on
}

func ptr[T any](v T) *T { return &v }

// Event makes the next event. Its Ingested, Partition and Offset are for who produces it.
func (g *Generator) Event() Event {
	r := g.Rand
	g.Clock += int64(r.IntN(20)) * 1_000_000
	e := Event{Time: g.Clock}
	switch r.IntN(8) {
	case 0:
		e.Time -= r.Int64N(2 * hour)
	case 1:
		e.Time -= r.Int64N(10 * day)
	case 2:
		g.Clock += r.Int64N(hour)
	case 3:
		e.Time -= e.Time % minute
	}
	if r.IntN(30) > 0 {
		e.User = ptr(fmt.Sprintf("u%d", r.IntN(12)))
	}
	if r.IntN(30) > 0 {
		e.Shop = ptr(int64(r.IntN(6)))
	}
	if r.IntN(5) > 0 {
		e.Amount = ptr(int64(r.IntN(40)))
		if r.IntN(40) == 0 {
			e.Amount = ptr([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, -1}[r.IntN(4)])
		}
	}
	if r.IntN(3) > 0 {
		e.Note = ptr(fmt.Sprintf("n%d", r.IntN(1000)))
	}
	return e
}
