package telemetry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
)

// Trace is a place in a distributed trace: a W3C traceparent.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte // of the caller, or of this process where NewSpan made it
	Flags   byte    // bit 0: sampled
}

// ParseTraceparent reads a traceparent header (https://www.w3.org/TR/trace-context/).
// A version later than 00 is read as far as version 00 goes, as the
// specification wants it.
func ParseTraceparent(s string) (t Trace, ok bool) {
	// 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return Trace{}, false
	}
	if len(s) > 55 && (s[:2] == "00" || s[55] != '-') {
		return Trace{}, false
	}
	var version, flags [1]byte
	if !unhex(version[:], s[:2]) || !unhex(t.TraceID[:], s[3:35]) || !unhex(t.SpanID[:], s[36:52]) || !unhex(flags[:], s[53:55]) {
		return Trace{}, false
	}
	if t.TraceID == ([16]byte{}) || t.SpanID == ([8]byte{}) {
		return Trace{}, false
	}
	t.Flags = flags[0]
	return t, true
}

// unhex decodes lower-case hex; upper case is not allowed in a traceparent.
func unhex(dst []byte, s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// NewTrace starts a trace that is not sampled.
func NewTrace() Trace {
	var t Trace
	_, _ = rand.Read(t.TraceID[:]) // never fails (crypto/rand)
	return t.NewSpan()
}

// NewSpan is a new span of the same trace, which follows t.
func (t Trace) NewSpan() Trace {
	_, _ = rand.Read(t.SpanID[:]) // never fails (crypto/rand)
	return t
}

// ID is the trace's ID, in hex.
func (t Trace) ID() string { return hex.EncodeToString(t.TraceID[:]) }

// Traceparent is the header that tells a server called on behalf of t.
func (t Trace) Traceparent() string {
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.TraceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.SpanID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, []byte{t.Flags})
	return string(b)
}

type traceKey struct{}

// WithTrace is a context that belongs to a trace.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceFrom is the trace that a context belongs to.
func TraceFrom(ctx context.Context) (Trace, bool) {
	t, ok := ctx.Value(traceKey{}).(Trace)
	return t, ok
}
