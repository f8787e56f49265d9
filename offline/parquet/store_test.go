package parquet

import (
	"testing"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/offlinetest"
)

func open(t testing.TB, change func(*Options)) *Store {
	t.Helper()
	o := Options{URL: "file://" + t.TempDir(), Project: "p"}
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

// TestConformanceSpilling: with memory for a few rows a refresh sorts in many runs and merges them.
func TestConformanceSpilling(t *testing.T) {
	offlinetest.Run(t, func(t *testing.T) offline.Store {
		return open(t, func(o *Options) { o.Memory, o.Workers = 4<<10, 3 })
	})
}
