package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/forebay/forebay/internal/flight"
	"github.com/forebay/forebay/internal/httpapi"
)

// ServeOptions says where to serve.
type ServeOptions struct {
	Listen string // host:port; port 0 picks a free one
	// FlightListen is where Arrow Flight is served too; "" for not.
	FlightListen string
	// FlightReady, if set, is called with Arrow Flight's location, before Ready.
	FlightReady func(location string)
	// Ready, if set, is called once requests are answered, with the server's URL.
	Ready func(url string)
}

// How often a server looks for other live generations, so that a rollback counts within a fraction
// of a second; and after how many such looks at the registry too.
const (
	followLiveEvery = 200 * time.Millisecond
	ticksPerHead    = 5
)

// followEvery is how often a stream looks for a new revision, and other generations to write to.
const followEvery = time.Second

// flightDrain is how long calls of Arrow Flight may take to end.
const flightDrain = 10 * time.Second

// Serve serves HTTP until ctx ends, and then lets the requests in flight end. It
// holds embedded stores as their owner.
func (a *App) Serve(ctx context.Context, o ServeOptions) error {
	if _, err := a.Head(ctx); err != nil {
		return err
	}
	if err := a.Hold(ctx); err != nil {
		return err
	}
	e, err := a.newEngine(ctx)
	if err != nil {
		return err
	}
	return a.serve(ctx, e, o)
}

func (a *App) serve(ctx context.Context, e *engine, o ServeOptions) (err error) {
	if e.lookups, err = a.cached(e.store); err != nil {
		return err
	}
	server, err := a.newServer(e)
	if err != nil {
		return err
	}
	address, err := server.Start(ctx, o.Listen)
	if err != nil {
		return err
	}
	var flights *flight.Server
	if o.FlightListen != "" {
		var at net.Addr
		if flights, at, err = flight.Start(ctx, a.flightOptions(e, o.FlightListen)); err != nil {
			return errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
		}
		if o.FlightReady != nil {
			o.FlightReady("grpc://" + at.String())
		}
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		e.follow(following, followLiveEvery)
	}()
	defer a.background(ctx, a.tend)()
	if o.Ready != nil {
		o.Ready("http://" + address.String())
	}
	<-ctx.Done()
	err = server.Stop(context.WithoutCancel(ctx))
	if flights != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightDrain)
		flights.Stop(stopping)
		cancel()
	}
	stop()
	<-followed
	return err
}

// Handler answers HTTP requests in process, without a socket. It takes up new
// revisions until the App is closed.
func (a *App) Handler(ctx context.Context) (http.Handler, error) {
	e, err := a.newEngine(ctx)
	if err != nil {
		return nil, err
	}
	if e.lookups, err = a.cached(e.store); err != nil {
		return nil, err
	}
	server, err := httpapi.New(httpapi.Options{Engine: e, Log: a.log, Metrics: a.metrics})
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		e.follow(following, followLiveEvery)
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		stop()
		return nil, errors.Join(errClosed, server.Stop(ctx))
	}
	a.opened = append(a.opened, closer(func() error {
		stop()
		<-followed
		return nil
	}))
	return server.Handler(), nil
}
