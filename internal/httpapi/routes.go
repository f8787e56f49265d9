package httpapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// route is one operation of the API. openapi.json describes each, and a test
// holds the two together.
type route struct {
	method, path string // path as OpenAPI writes it: /v1/push/{source}
	handle       echo.HandlerFunc
	describe     answer // of errors
	open         bool   // needs no API key
	bounded      bool   // counts towards MaxConcurrent
	feast        bool   // is one of Feast's, whose other methods and paths are answered as there
}

func (s *Server) table(metrics *prometheus.Registry) []route {
	scrape := promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: promLog{s}})
	return []route{
		{method: http.MethodPost, path: "/v1/features", handle: s.features, describe: plainError, bounded: true},
		{method: http.MethodGet, path: "/v1/explain", handle: s.explain, describe: plainError, bounded: true},
		{method: http.MethodPost, path: "/v1/push/{source}", handle: s.push, describe: plainError, bounded: true},
		{method: http.MethodPost, path: "/v1/datasets", handle: s.buildDataset, describe: plainError},
		{method: http.MethodGet, path: "/v1/datasets", handle: s.datasets, describe: plainError},
		{method: http.MethodGet, path: "/v1/datasets/{id}", handle: s.dataset, describe: plainError},
		{method: http.MethodGet, path: "/v1/datasets/{id}/data", handle: s.datasetData, describe: plainError},
		{method: http.MethodGet, path: "/v1/registry/{kind}", handle: s.definitions, describe: plainError},
		{method: http.MethodGet, path: "/v1/registry/{kind}/{name}", handle: s.definition, describe: plainError},
		{method: http.MethodPost, path: "/get-online-features", handle: s.getOnlineFeatures, describe: feastAnswer, bounded: true, feast: true},
		{method: http.MethodPost, path: "/push", handle: s.feastPush, describe: feastAnswer, bounded: true, feast: true},
		{method: http.MethodGet, path: "/health", handle: s.feastHealth, describe: feastAnswer, open: true, feast: true},
		{method: http.MethodGet, path: "/healthz", handle: s.alive, describe: plainError, open: true},
		{method: http.MethodGet, path: "/readyz", handle: s.ready, describe: plainError, open: true},
		{method: http.MethodGet, path: "/metrics", handle: echo.WrapHandler(scrape), describe: plainError},
		{method: http.MethodGet, path: "/openapi.json", handle: s.openAPI, describe: plainError, open: true},
	}
}

// routes builds the router.
func (s *Server) routes(metrics *prometheus.Registry) {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	for _, r := range s.table(metrics) {
		h := r.handle
		if r.bounded {
			h = s.bounded(h)
		}
		if !r.open {
			h = s.authorize(h, r.bounded)
		}
		h = s.observe(r.path, r.describe, h)
		path := strings.NewReplacer("{", ":", "}", "").Replace(r.path)
		if r.feast {
			e.Any(path, s.observe("unknown", feastDetailAnswer, otherMethod(r.method)))
			e.Any(path+"/", s.observe(r.path, r.describe, withoutSlash(r.path)))
		}
		e.Add(r.method, path, h)
		if r.method == http.MethodGet && !r.feast {
			e.Add(http.MethodHead, path, h) // net/http leaves the body out; load balancers probe so
		}
	}
	e.HTTPErrorHandler = s.unrouted()
	s.echo = e
}

// otherMethod refuses what a route of Feast's does not take, OPTIONS too.
func otherMethod(allowed string) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Allow", allowed)
		return echo.ErrMethodNotAllowed
	}
}

// withoutSlash sends a client to the path that it meant, as FastAPI does.
func withoutSlash(path string) echo.HandlerFunc {
	return func(c echo.Context) error {
		if query := c.Request().URL.RawQuery; query != "" {
			return c.Redirect(http.StatusTemporaryRedirect, path+"?"+query)
		}
		return c.Redirect(http.StatusTemporaryRedirect, path)
	}
}

// unrouted answers requests that no route takes.
func (s *Server) unrouted() echo.HTTPErrorHandler {
	refuse := func(c echo.Context) error {
		err, _ := c.Get(routingError).(error)
		return err
	}
	ours := s.observe("unknown", plainError, refuse)
	feasts := s.observe("unknown", feastDetailAnswer, refuse)
	return func(err error, c echo.Context) {
		c.Set(routingError, err)
		h := feasts
		if strings.HasPrefix(c.Request().URL.Path, "/v1/") {
			h = ours
		}
		if err := h(c); err != nil {
			s.log.ErrorContext(c.Request().Context(), "a request without a route was not answered", "error", err)
		}
	}
}

const routingError = "routing error"

// promLog passes on what promhttp cannot tell its client.
type promLog struct{ s *Server }

func (l promLog) Println(v ...any) { l.s.log.Error("metrics could not be collected", "error", v) }

// param is a parameter of the path. The router takes it from the path as it was
// escaped, where the two differ.
func param(c echo.Context, name string) string {
	value := c.Param(name)
	if c.Request().URL.RawPath == "" {
		return value
	}
	if plain, err := url.PathUnescape(value); err == nil { // always: net/http has parsed it before
		return plain
	}
	return value
}
