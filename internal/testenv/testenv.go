// Package testenv starts the real services that tests need: Redis (single,
// Sentinel, Cluster), Kafka (one broker or three, with kill and revive) and ClickHouse (the
// engine behind its HTTP interface).
//
// A service is started once per test process, on a free port of 127.0.0.1, in a
// temporary folder, and stopped with it. Where its program is missing the test skips
// with one line that says what to install; with CI=true it fails.
package testenv

import (
	"os"
	"testing"
)

// missing skips the test, or fails it in CI: a service it needs cannot be had.
func missing(t testing.TB, what, install string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: %s", what, install)
	}
	t.Skipf("%s is missing: %s", what, install)
}
