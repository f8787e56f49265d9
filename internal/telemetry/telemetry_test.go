package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTraceparent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	tr, ok := ParseTraceparent(good)
	if !ok || tr.Traceparent() != good || tr.ID() != "0af7651916cd43dd8448eb211c80319c" || tr.Flags != 1 {
		t.Fatalf("%+v, %t", tr, ok)
	}
	next := tr.NewSpan()
	if next.TraceID != tr.TraceID || next.SpanID == tr.SpanID || next.Flags != tr.Flags {
		t.Errorf("a new span of %+v is %+v", tr, next)
	}
	if _, ok := ParseTraceparent("01" + good[2:] + "-more"); !ok {
		t.Error("a later version was refused")
	}
	for _, bad := range []string{
		"", "00", good + "-more", "ff" + good[2:], strings.ToUpper(good), good[:54], strings.ReplaceAll(good, "-", "_"), "0x" + good[2:],
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "01" + good[2:] + "x",
	} {
		if tr, ok := ParseTraceparent(bad); ok {
			t.Errorf("%q was read as %+v", bad, tr)
		}
	}
	if n := NewTrace(); n.TraceID == ([16]byte{}) || n.SpanID == ([8]byte{}) || n.Flags != 0 {
		t.Errorf("a new trace is %+v", n)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, Auto, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	tr := NewTrace()
	log.With("a", 1).InfoContext(WithTrace(context.Background(), tr), "hello")
	log.Debug("not shown")
	var line struct {
		Msg     string `json:"msg"`
		A       int    `json:"a"`
		TraceID string `json:"trace_id"`
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	if line.Msg != "hello" || line.A != 1 || line.TraceID != tr.ID() {
		t.Errorf("logged %s", out.Bytes())
	}
	if _, err := NewLogger(&out, "xml", slog.LevelInfo); err == nil {
		t.Error("format xml was taken")
	}
	if _, err := ParseLevel("loud"); err == nil {
		t.Error("level loud was taken")
	}
	for _, name := range []string{"debug", "info", "WARN", "error"} {
		if l, err := ParseLevel(name); err != nil || !strings.EqualFold(l.String(), name) {
			t.Errorf("ParseLevel(%q) = %v, %v", name, l, err)
		}
	}
}

func TestHTTPMetrics(t *testing.T) {
	r := NewRegistry()
	h, err := NewHTTP(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewHTTP(r); err == nil {
		t.Error("registered twice without an error")
	}
	route := h.Route("/v1/features")
	route.Begin()
	route.Begin()
	route.End(200, 300*time.Microsecond, 1000)
	route.End(404, time.Second, 10)
	route.Begin()
	err = testutil.GatherAndCompare(r, strings.NewReader(`
# HELP forebay_http_requests_in_flight HTTP requests being answered.
# TYPE forebay_http_requests_in_flight gauge
forebay_http_requests_in_flight 1
# HELP forebay_http_requests_total HTTP requests answered.
# TYPE forebay_http_requests_total counter
forebay_http_requests_total{code="200",route="/v1/features"} 1
forebay_http_requests_total{code="404",route="/v1/features"} 1
`), "forebay_http_requests_in_flight", "forebay_http_requests_total")
	if err != nil {
		t.Error(err)
	}
}
