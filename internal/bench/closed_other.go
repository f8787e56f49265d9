//go:build !linux

package bench

import (
	"context"
	"errors"
	"time"
)

// Closed is a closed loop over connections that are kept: each sends its next request as soon as
// the last is answered. It is used by one goroutine.
type Closed struct {
	clients []Client
	runs    []Figures
}

// DialClosed connects to a server of HTTP, host:port. The nth request sent is requests[n modulo their number].
func DialClosed(ctx context.Context, addr string, requests []Request, connections int) (*Closed, error) {
	c := &Closed{}
	for range connections {
		one, err := DialHTTP(ctx, addr, requests)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.clients = append(c.clients, one)
	}
	return c, nil
}

// Run asks for a while; answers that are on their way at its end are waited for. It returns the
// requests answered in a second.
func (c *Closed) Run(ctx context.Context, d time.Duration) (float64, error) {
	f, err := Run(ctx, Load{Clients: c.clients, Duration: d})
	if err == nil {
		c.runs = append(c.runs, f)
	}
	return f.PerSecond, err
}

// Figures are those of all runs since Reset; latencies of the longest of them.
func (c *Closed) Figures() (f Figures) {
	var answered, bytes, longest float64
	for _, r := range c.runs {
		f.Requests, f.Errors, f.Seconds = f.Requests+r.Requests, f.Errors+r.Errors, f.Seconds+r.Seconds
		if ok := r.PerSecond * r.Seconds; ok > 0 {
			answered, bytes = answered+ok, bytes+ok*r.AnswerBytes
		}
		if r.Seconds > longest {
			longest, f.Latency = r.Seconds, r.Latency
		}
		if f.FirstError == "" {
			f.FirstError = r.FirstError
		}
	}
	if answered > 0 {
		f.PerSecond, f.AnswerBytes = answered/f.Seconds, bytes/answered
	}
	return f
}

// Reset forgets the runs so far.
func (c *Closed) Reset() { c.runs = nil }

// Close closes the connections.
func (c *Closed) Close() error {
	var errs []error
	for _, one := range c.clients {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}
