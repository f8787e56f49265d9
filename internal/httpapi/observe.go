package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/telemetry"
)

// observe wraps the handler of a route with everything that all routes have: an
// id, the trace, a log line, metrics, deadlines for slow clients, and an answer
// where the handler failed or panicked.
func (s *Server) observe(pattern string, describe answer, next echo.HandlerFunc) echo.HandlerFunc {
	metrics := s.http.Route(pattern)
	return func(c echo.Context) error {
		start := time.Now()
		metrics.Begin()
		req, res := c.Request(), c.Response()
		id := requestID(req)
		res.Header()["X-Request-Id"] = []string{id}
		ctx := req.Context()
		if t, ok := telemetry.ParseTraceparent(req.Header.Get(api.HeaderTraceparent)); ok {
			ctx = telemetry.WithTrace(ctx, t.NewSpan())
			c.SetRequest(req.WithContext(ctx))
		}
		// A client that does not send its body, or does not read its answer, must not
		// hold a connection for ever, also where the handler never reads the body (what
		// is left of it is read by net/http). In process there is nothing to time out.
		rc := http.NewResponseController(res.Writer)
		if req.ContentLength != 0 {
			_ = rc.SetReadDeadline(start.Add(s.cfg.BodyTimeout))
		}
		_ = rc.SetWriteDeadline(start.Add(s.cfg.BodyTimeout + s.cfg.RequestTimeout + s.cfg.BodyTimeout))

		err := s.recovered(c, next)
		status := res.Status
		half := err != nil && res.Committed
		if err != nil {
			f := failureOf(err)
			if status = f.status; !half {
				s.answerError(c, f, describe)
			}
		}
		took := time.Since(start)
		metrics.End(status, took, res.Size)
		s.logRequest(ctx, req, id, pattern, status, took, res.Size, err)
		if half {
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
		return nil
	}
}

func (s *Server) answerError(c echo.Context, f *failure, describe answer) {
	status, body := describe(f)
	if status == http.StatusServiceUnavailable {
		c.Response().Header().Set("Retry-After", retryAfter)
	}
	if status == http.StatusUnauthorized {
		c.Response().Header().Set("WWW-Authenticate", "Bearer")
	}
	c.Response().Header().Set("Content-Type", api.TypeJSON)
	c.Response().WriteHeader(status)
	enc := json.NewEncoder(c.Response())
	enc.SetEscapeHTML(false) // it is no page, and messages quote what was sent
	if err := enc.Encode(body); err != nil {
		s.log.DebugContext(c.Request().Context(), "an error's answer was not sent", "error", err)
	}
}

// errPanic marks an error that was a panic.
var errPanic = errors.New("panic")

func (s *Server) recovered(c echo.Context, next echo.HandlerFunc) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		s.log.ErrorContext(c.Request().Context(), "panic while a request was answered", "panic", p, "path", c.Request().URL.Path, "stack", string(debug.Stack()))
		err = fmt.Errorf("%w: %v", errPanic, p)
	}()
	return next(c)
}

func (s *Server) logRequest(ctx context.Context, req *http.Request, id, route string, status int, took time.Duration, bytes int64, err error) {
	level := slog.LevelDebug
	switch {
	case status >= 500:
		level = slog.LevelError
	case status >= 400:
		level = slog.LevelInfo
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", id), slog.String("method", req.Method), slog.String("route", route),
		slog.Int("status", status), slog.Duration("took", took), slog.Int64("bytes", bytes), slog.String("remote", req.RemoteAddr),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", errorText(err)))
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// errorText is the whole error, not only what the client is told.
func errorText(err error) string {
	var f *failure
	if errors.As(err, &f) && f.cause != nil {
		return f.cause.Error()
	}
	return err.Error()
}

// requestID is the id a request came with, if it is fit for a log, or a new one.
func requestID(req *http.Request) string {
	id := req.Header.Get(api.HeaderRequestID)
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		var b [16]byte
		binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
		return hex.EncodeToString(b[:])
	}
	return id
}

// authorize lets requests through that carry one of the configured keys and, where
// the route is limited, are within the key's rate.
func (s *Server) authorize(next echo.HandlerFunc, limited bool) echo.HandlerFunc {
	limited = limited && s.limits != nil
	if len(s.cfg.APIKeys) == 0 {
		if !limited {
			return next
		}
		return func(c echo.Context) error {
			if err := withinRate(c, s.limits[0]); err != nil {
				return err
			}
			return next(c)
		}
	}
	// Hashes have one length, so that the comparison tells nothing of a key's.
	keys := make([][32]byte, len(s.cfg.APIKeys))
	for i, k := range s.cfg.APIKeys {
		keys[i] = sha256.Sum256([]byte(k))
	}
	return func(c echo.Context) error {
		h := c.Request().Header
		key := h.Get(api.HeaderAPIKey)
		if key == "" {
			if scheme, token, ok := strings.Cut(h.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
				key = strings.TrimSpace(token)
			}
		}
		given, ok, who := sha256.Sum256([]byte(key)), 0, 0
		for i := range keys {
			same := subtle.ConstantTimeCompare(given[:], keys[i][:])
			ok |= same
			who |= i * same
		}
		if key == "" || ok == 0 {
			return failed(http.StatusUnauthorized, api.CodeUnauthorized, "this server wants an API key: Authorization: Bearer KEY, or X-API-Key: KEY")
		}
		if limited {
			if err := withinRate(c, s.limits[who]); err != nil {
				return err
			}
		}
		return next(c)
	}
}

// withinRate refuses a request that comes too soon.
func withinRate(c echo.Context, l *limiter) error {
	wait := l.allow()
	if wait == 0 {
		return nil
	}
	seconds := int64((wait + time.Second - 1) / time.Second)
	c.Response().Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	return failed(http.StatusTooManyRequests, api.CodeRateLimited, "too many requests in a second; try again in %s", wait.Round(time.Millisecond))
}
