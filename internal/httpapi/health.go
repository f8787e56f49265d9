package httpapi

import (
	"context"
	_ "embed" // openapi.json
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
)

// readyTimeout bounds the checks of /readyz: an answer must come even where a store hangs.
const readyTimeout = 2 * time.Second

// alive answers GET /healthz: the process answers.
func (s *Server) alive(c echo.Context) error {
	return writeJSON(c, []byte(`{"status":"ok"}`+"\n"))
}

// ready answers GET /readyz: what lookups depend on can be reached.
func (s *Server) ready(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	answer := api.Readiness{Ready: true, Checks: s.engine.Ready(ctx)}
	status := http.StatusOK
	for _, check := range answer.Checks {
		if !check.OK {
			answer.Ready, status = false, http.StatusServiceUnavailable
		}
	}
	if status != http.StatusOK {
		c.Response().Header().Set("Retry-After", retryAfter)
	}
	return c.JSON(status, answer)
}

// feastHealth answers GET /health as Feast does: by the registry alone, without a body.
func (s *Server) feastHealth(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	if _, err := s.engine.Revision(ctx); err != nil {
		return c.NoContent(http.StatusServiceUnavailable)
	}
	return c.NoContent(http.StatusOK)
}

//go:embed openapi.json
var openAPIDocument []byte

// openAPI answers GET /openapi.json.
func (s *Server) openAPI(c echo.Context) error { return writeJSON(c, openAPIDocument) }
