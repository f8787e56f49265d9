package sdk

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Option sets something about a Store. Those of [New] and [Open] are one type;
// which of the two an option is for is said with it.
type Option func(*options)

type options struct {
	apiKey      string
	timeout     time.Duration
	retries     int
	transport   http.RoundTripper
	environment string
	log         *slog.Logger
}

// WithAPIKey sends a key with every request, as a bearer token. For New.
func WithAPIKey(key string) Option { return func(o *options) { o.apiKey = key } }

// WithTimeout bounds each Lookup and Push, its repetitions included. Default 10s;
// 0 is none. BuildDataset is bounded by its context alone. For New and Open.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithRetries sets how often a Lookup is repeated where the server cannot be
// reached or is busy (503). Default 2. For New.
func WithRetries(n int) Option { return func(o *options) { o.retries = n } }

// WithTransport makes requests with rt, for tracing, TLS of one's own, or a
// server without a socket. Default a transport that keeps up to 256 idle
// connections to the server. For New.
func WithTransport(rt http.RoundTripper) Option { return func(o *options) { o.transport = rt } }

// WithLogger takes what a server would log: among it, why a request failed where
// its error says no more than "internal". Default none. For Open.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// Environment chooses an environment of forebay.yaml. Default its default one. For Open.
func Environment(name string) Option { return func(o *options) { o.environment = name } }

func newOptions(opts []Option) (options, error) {
	o := options{timeout: 10 * time.Second, retries: 2}
	for _, set := range opts {
		set(&o)
	}
	if o.timeout < 0 || o.retries < 0 {
		return o, errors.New("sdk: a timeout or a number of retries is negative")
	}
	return o, nil
}

// newTransport is the default transport: one server, many requests at a time.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
	}
}
