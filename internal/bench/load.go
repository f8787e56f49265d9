package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Client is one connection. Do sends the nth request of the run and waits for
// its answer; it returns the bytes of the answer. It is used by one goroutine.
type Client interface {
	Do(n int64) (bytes int, err error)
	Close() error
}

// Load says what to do.
type Load struct {
	// Clients are the connections. They are the caller's to close.
	Clients []Client
	// Rate is how many requests fall due in a second; 0 is a closed loop.
	Rate float64
	// Duration is how long requests are sent. Those in flight at its end are waited for.
	Duration time.Duration

	sleep func(time.Duration) // nil: the most exact there is; set by tests
}

// Figures are what a run showed.
type Figures struct {
	Requests  int64   `json:"requests"`
	Errors    int64   `json:"errors"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"` // requests answered without an error
	// Rate is what was asked for of an open loop; 0 for a closed one.
	Rate float64 `json:"rate,omitempty"`
	// AnswerBytes is the mean size of an answer.
	AnswerBytes float64 `json:"answer_bytes"`
	// Latency is that of requests answered without an error.
	Latency Latency `json:"latency_ms"`
	// FirstError is what one of the errors was.
	FirstError string `json:"first_error,omitempty"`
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// The histogram's bounds in microseconds, and its significant digits.
const (
	lowest  = 1
	highest = 60_000_000
	digits  = 3
)

// share is what one client has seen.
type share struct {
	hist   *hdrhistogram.Histogram
	errors int64
	bytes  int64
	first  error
}

// Run drives a load until its duration is over or ctx ends, which is an error.
func Run(ctx context.Context, l Load) (Figures, error) {
	if len(l.Clients) == 0 || l.Duration <= 0 || l.Rate < 0 {
		return Figures{}, errors.New("bench: a load needs clients, a duration and a rate that is not negative")
	}
	shares := make([]share, len(l.Clients))
	var next atomic.Int64
	start := time.Now()
	end := start.Add(l.Duration)
	due := l.schedule(ctx, start, end)
	var wg sync.WaitGroup
	for i, c := range l.Clients {
		s := &shares[i]
		s.hist = hdrhistogram.New(lowest, highest, digits)
		wg.Go(func() {
			for ctx.Err() == nil {
				from := time.Now()
				if due != nil {
					at, ok := <-due
					if !ok {
						return
					}
					from = at
				} else if !from.Before(end) {
					return
				}
				n, err := c.Do(next.Add(1) - 1)
				s.add(time.Since(from), n, err)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return Figures{}, fmt.Errorf("bench: %w", err)
	}
	return sum(shares, time.Since(start), l.Rate), nil
}

// add notes one request.
func (s *share) add(took time.Duration, bytes int, err error) {
	if err != nil {
		if s.errors++; s.first == nil {
			s.first = err
		}
		return
	}
	s.bytes += int64(bytes)
	_ = s.hist.RecordValue(min(max(took.Microseconds(), lowest), highest)) // within its bounds
}

// schedule sends the instants at which requests fall due; nil for a closed loop.
// They are those of the rate, also where nobody is free to take them.
func (l *Load) schedule(ctx context.Context, start, end time.Time) <-chan time.Time {
	if l.Rate == 0 {
		return nil
	}
	due := make(chan time.Time, 1024)
	go func() {
		defer close(due)
		sleep := l.sleep
		if sleep == nil {
			// The runtime's timers are late by up to a millisecond where it is idle.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			sleep = preciseSleep
		}
		for i := int64(0); ; i++ {
			at := start.Add(time.Duration(float64(i) / l.Rate * float64(time.Second)))
			if !at.Before(end) {
				return
			}
			if wait := time.Until(at); wait > 0 {
				sleep(wait)
			}
			select {
			case due <- at:
			case <-ctx.Done():
				return
			}
		}
	}()
	return due
}

func sum(shares []share, took time.Duration, rate float64) Figures {
	all := hdrhistogram.New(lowest, highest, digits)
	f := Figures{Seconds: took.Seconds(), Rate: rate}
	var bytes int64
	for _, s := range shares {
		all.Merge(s.hist)
		f.Errors += s.errors
		bytes += s.bytes
		if f.FirstError == "" && s.first != nil {
			f.FirstError = s.first.Error()
		}
	}
	answered := all.TotalCount()
	f.Requests = answered + f.Errors
	f.PerSecond = float64(answered) / f.Seconds
	if answered > 0 {
		f.AnswerBytes = float64(bytes) / float64(answered)
	}
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	f.Latency = Latency{
		Mean: all.Mean() / 1000, P50: ms(all.ValueAtQuantile(50)), P90: ms(all.ValueAtQuantile(90)), P99: ms(all.ValueAtQuantile(99)),
		P999: ms(all.ValueAtQuantile(99.9)), Max: ms(all.Max()),
	}
	return f
}
