// Package telemetry is how a process says what it is doing: logs (slog),
// metrics (Prometheus) and the trace that a request belongs to (W3C trace context).
//
// Everything is made by a function and passed on; there is no global logger or
// registry.
package telemetry
