package clickhouse

import (
	"testing"

	"github.com/google/uuid"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/offlinetest"
)

// open opens a store of a project of its own on the shared server.
func open(t testing.TB, change func(*Options)) *Store {
	t.Helper()
	o := Options{URL: testenv.ClickHouse(t).URL("forebay_test"), Project: "p" + uuid.NewString()[:8]}
	if change != nil {
		change(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	offlinetest.Run(t, func(t *testing.T) offline.Store { return open(t, nil) })
}
