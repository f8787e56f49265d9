package httpapi

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTestServer(t testing.TB, cfg Config, engine Engine) *Server {
	t.Helper()
	s, err := New(Options{Config: cfg, Engine: engine, Log: slog.New(slog.DiscardHandler), Metrics: telemetry.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
