// Package httpapi serves Forebay over HTTP/1.1 and h2c: lookups, pushes,
// training datasets and the registry as docs/http.md describes them, and
// lookups as Feast's server answers them.
//
// It knows nothing of stores: it reads requests into columns, asks an [Engine],
// and writes the answer. It is the only package that imports echo, and the only
// one that knows HTTP status codes.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/plainhttp"
	"github.com/forebay/forebay/internal/telemetry"
)

// Config is what may be set about a server. The zero value of a field means its
// default.
type Config struct {
	// MaxBody is the greatest size in bytes of a JSON body. Default 10 MiB.
	MaxBody int64
	// MaxSpine is the greatest size in bytes of a dataset's spine. Default 4 GiB.
	MaxSpine int64
	// MaxEntities is the greatest number of entities in one lookup, and of rows
	// in one push. Default 10000.
	MaxEntities int
	// MaxConcurrent is the greatest number of lookups and pushes answered at a
	// time; one more is refused with 503. Default 1024.
	MaxConcurrent int
	// RateLimit is how many lookups and pushes each API key may ask for in a second
	// (and as many at once after a second without), or everybody together where there are no keys; one
	// more is refused with 429. Default 0: any number.
	RateLimit int
	// HeaderTimeout bounds the time from a connection's first byte to the end of
	// the headers. Default 5s.
	HeaderTimeout time.Duration
	// BodyTimeout bounds the time in which a JSON body must arrive, and the time
	// without progress of a spine or an answer. Default 15s.
	BodyTimeout time.Duration
	// RequestTimeout bounds the time of a lookup or a push once its body is
	// there; later ones are answered 504. Default 5s.
	RequestTimeout time.Duration
	// IdleTimeout closes a connection on which nothing is asked. Default 2m.
	IdleTimeout time.Duration
	// DrainTimeout bounds how long Stop waits for requests being answered. Default 10s.
	DrainTimeout time.Duration
	// APIKeys, where there are any, are the keys of which a request must carry
	// one, as "Authorization: Bearer KEY" or "X-API-Key: KEY". Default none:
	// everybody may ask. /healthz, /readyz, /health and /openapi.json need none.
	APIKeys []string
	// TempDir is where spines and results of datasets are kept while they are
	// built. Default os.TempDir().
	TempDir string
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if c.MaxBody == 0 {
		c.MaxBody = 10 << 20
	}
	if c.MaxSpine == 0 {
		c.MaxSpine = 4 << 30
	}
	if c.MaxEntities == 0 {
		c.MaxEntities = 10000
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = 1024
	}
	set(&c.HeaderTimeout, 5*time.Second)
	set(&c.BodyTimeout, 15*time.Second)
	set(&c.RequestTimeout, 5*time.Second)
	set(&c.IdleTimeout, 2*time.Minute)
	set(&c.DrainTimeout, 10*time.Second)
	return c
}

// Validate reports a field that makes no sense.
func (c Config) Validate() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxBody", c.MaxBody}, {"MaxSpine", c.MaxSpine}, {"MaxEntities", int64(c.MaxEntities)}, {"MaxConcurrent", int64(c.MaxConcurrent)}, {"RateLimit", int64(c.RateLimit)},
		{"HeaderTimeout", int64(c.HeaderTimeout)}, {"BodyTimeout", int64(c.BodyTimeout)}, {"RequestTimeout", int64(c.RequestTimeout)},
		{"IdleTimeout", int64(c.IdleTimeout)}, {"DrainTimeout", int64(c.DrainTimeout)},
	} {
		if f.value < 0 {
			return fmt.Errorf("http server: %s is %d: it cannot be negative", f.name, f.value)
		}
	}
	for i, key := range c.APIKeys {
		if key == "" {
			return fmt.Errorf("http server: APIKeys[%d] is empty", i)
		}
	}
	return nil
}

// Options are what a server works with.
type Options struct {
	Config Config
	Engine Engine
	// Log takes one line per request (level debug for those answered well, info
	// for a user's mistakes, error for the server's) and the server's own.
	Log *slog.Logger
	// Metrics is where the server registers its own and what /metrics shows.
	Metrics *prometheus.Registry
}

// Server answers HTTP. It is safe for concurrent use.
type Server struct {
	cfg     Config
	engine  Engine
	log     *slog.Logger
	http    *telemetry.HTTP
	slots   chan struct{} // one for each lookup or push being answered (slots.go)
	large   chan struct{} // one for each large body or answer on its way
	limits  []*limiter    // of each API key, or one where there are none; nil where rates are not bounded
	echo    *echo.Echo
	lookup  sync.Pool // of *lookupState
	answers sync.Pool // of *answerBuffer
	shapes  answerShapes

	deadlines deadlines     // of lookups
	grace     time.Duration // drainGrace outside tests

	mu      sync.Mutex
	server  *http.Server
	front   *plainhttp.Front
	serving chan struct{} // closed when Serve has returned
	stopped bool
}

// plainTargets are the requests that are many and small.
var plainTargets = []string{"POST " + api.PathFeatures, "POST /get-online-features"}

// drainGrace is for how long Stop answers requests that were on their way over idle connections.
const drainGrace = 100 * time.Millisecond

// New makes a server that is not started; its Handler works already.
func New(o Options) (*Server, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	metrics, err := telemetry.NewHTTP(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("http server: %w", err)
	}
	s := &Server{cfg: o.Config.withDefaults(), engine: o.Engine, log: o.Log, http: metrics, grace: drainGrace}
	s.slots, s.large = make(chan struct{}, s.cfg.MaxConcurrent), make(chan struct{}, s.cfg.MaxConcurrent)
	s.deadlines.timeout = s.cfg.RequestTimeout
	if s.cfg.RateLimit > 0 {
		for range max(1, len(s.cfg.APIKeys)) {
			s.limits = append(s.limits, newLimiter(s.cfg.RateLimit))
		}
	}
	s.routes(o.Metrics)
	return s, nil
}

// Handler answers requests without a socket: for tests, and for the SDK's store in process.
func (s *Server) Handler() http.Handler { return s.echo }

// Start listens on an address and serves until Stop. It returns the address that
// it listens on, which tells the port where the one asked for is 0.
func (s *Server) Start(ctx context.Context, listen string) (net.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return nil, http.ErrServerClosed
	case s.server != nil:
		return nil, errors.New("http server: started already")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("http server: %w", err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.server = &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		Protocols:         &protocols,
	}
	s.front = plainhttp.New(plainhttp.Options{
		Handler: s.echo, Targets: plainTargets, Log: s.log,
		HeaderTimeout: s.cfg.HeaderTimeout, IdleTimeout: s.cfg.IdleTimeout, DrainGrace: s.grace,
	})
	s.front.Attach(s.server)
	s.deadlines.serve(s.front.Context())
	s.serving = make(chan struct{})
	go func(server *http.Server, front *plainhttp.Front, done chan struct{}) {
		defer close(done)
		var both sync.WaitGroup
		defer both.Wait()
		for _, serve := range []func() error{func() error { return front.Serve(l) }, func() error { return server.Serve(front.Rest()) }} {
			both.Go(func() {
				if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
					s.log.Error("http server stopped serving", "address", l.Addr().String(), "error", err)
				}
			})
		}
	}(s.server, s.front, s.serving)
	return l.Addr(), nil
}

// Stop closes the listener, waits for the requests being answered, at most until
// ctx ends or DrainTimeout passes, and then closes what is left. The error says
// that something was cut off. Stopping twice, or without a start, is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	// The front first: it waits until no connection of net/http's is likely to bring one more request.
	err := s.front.Shutdown(ctx)
	if left := s.server.Shutdown(ctx); err == nil {
		err = left
	}
	if err != nil {
		err = fmt.Errorf("http server: requests were cut off: %w", errors.Join(err, s.server.Close(), s.front.Close()))
	}
	<-s.serving
	s.server = nil
	return err
}
