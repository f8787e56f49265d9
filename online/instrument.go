package online

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Instrument is a store that counts and times what is done with another:
//
//	forebay_online_store_seconds{op}            histogram, of every call
//	forebay_online_store_errors_total{op,why}   why: unavailable, full, deadline, canceled, closed, other
//	forebay_online_store_records_total{op}      op: found, absent (of Get), applied, stale (of Write)
//
// Closing it closes the other. The error is one of registering the metrics.
func Instrument(s Store, r prometheus.Registerer) (Store, error) {
	i := &instrumented{
		Store: s,
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "forebay_online_store_seconds", Help: "Time of calls of the online store.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"op"}),
		errors:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "forebay_online_store_errors_total", Help: "Calls of the online store that failed."}, []string{"op", "why"}),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "forebay_online_store_records_total", Help: "Records read and written in the online store."}, []string{"op"}),
	}
	for _, c := range []prometheus.Collector{i.seconds, i.errors, i.records} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metrics of the online store: %w", err)
		}
	}
	i.found, i.absent = i.records.WithLabelValues("found"), i.records.WithLabelValues("absent")
	i.applied, i.stale = i.records.WithLabelValues("applied"), i.records.WithLabelValues("stale")
	i.get, i.write = i.seconds.WithLabelValues("get"), i.seconds.WithLabelValues("write")
	return i, nil
}

type instrumented struct {
	Store
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
	records *prometheus.CounterVec

	// Those of lookups and writes, found once.
	get, write                    prometheus.Observer
	found, absent, applied, stale prometheus.Counter
}

func (i *instrumented) failed(op string, err error) {
	if err == nil {
		return
	}
	why := "other"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		why = "deadline"
	case errors.Is(err, context.Canceled):
		why = "canceled"
	case errors.Is(err, ErrClosed):
		why = "closed"
	case errors.Is(err, ErrFull):
		why = "full"
	case errors.Is(err, ErrUnavailable):
		why = "unavailable"
	}
	i.errors.WithLabelValues(op, why).Inc()
}

// call times a call that is made rarely.
func (i *instrumented) call(op string, fn func() error) error {
	start := time.Now()
	err := fn()
	i.seconds.WithLabelValues(op).Observe(time.Since(start).Seconds())
	i.failed(op, err)
	return err
}

func (i *instrumented) Get(ctx context.Context, keys []Key, dst [][]byte) error {
	start := time.Now()
	err := i.Store.Get(ctx, keys, dst)
	i.get.Observe(time.Since(start).Seconds())
	if err != nil {
		i.failed("get", err)
		return err
	}
	found := 0
	for _, b := range dst {
		if b != nil {
			found++
		}
	}
	i.found.Add(float64(found))
	i.absent.Add(float64(len(dst) - found))
	return nil
}

func (i *instrumented) Write(ctx context.Context, records []Record, mode WriteMode) (WriteResult, error) {
	start := time.Now()
	res, err := i.Store.Write(ctx, records, mode)
	i.write.Observe(time.Since(start).Seconds())
	i.failed("write", err)
	i.applied.Add(float64(res.Applied))
	i.stale.Add(float64(res.Stale))
	return res, err
}

func (i *instrumented) Resumes(ctx context.Context, view string, generation int) (points []Resume, err error) {
	err = i.call("resumes", func() (err error) {
		points, err = i.Store.Resumes(ctx, view, generation)
		return err
	})
	return points, err
}

func (i *instrumented) SetResumes(ctx context.Context, points []Resume) error {
	return i.call("set_resumes", func() error { return i.Store.SetResumes(ctx, points) })
}

// Server implements Server.
func (i *instrumented) Server(ctx context.Context) (name string, err error) {
	err = i.call("server", func() (err error) {
		name, err = ServerOf(ctx, i.Store)
		return err
	})
	return name, err
}

func (i *instrumented) Live(ctx context.Context) (live map[string]int, err error) {
	err = i.call("live", func() (err error) {
		live, err = i.Store.Live(ctx)
		return err
	})
	return live, err
}

func (i *instrumented) SetLive(ctx context.Context, view string, generation int) error {
	return i.call("set_live", func() error { return i.Store.SetLive(ctx, view, generation) })
}

func (i *instrumented) Drop(ctx context.Context, view string, generation int) error {
	return i.call("drop", func() error { return i.Store.Drop(ctx, view, generation) })
}

func (i *instrumented) Usage(ctx context.Context, view string, generation int) (records, bytes int64, err error) {
	err = i.call("usage", func() (err error) {
		records, bytes, err = i.Store.Usage(ctx, view, generation)
		return err
	})
	return records, bytes, err
}

func (i *instrumented) Ping(ctx context.Context) error {
	return i.call("ping", func() error { return i.Store.Ping(ctx) })
}
