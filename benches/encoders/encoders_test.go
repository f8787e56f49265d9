// Package encoders measures what general JSON libraries take for the answer to a lookup of 100 entities and 50 float64 features,
// beside which `go test -run '^$' -bench Answer/json ./internal/httpapi` is what Forebay's own writing takes. It is a module of its own, so that none of
// them is a dependency of Forebay's.
package encoders

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/bytedance/sonic"
	v2 "github.com/go-json-experiment/json"
	goccy "github.com/goccy/go-json"
)

type row struct {
	Values          []float64 `json:"values"`
	Statuses        []string  `json:"statuses"`
	EventTimestamps []string  `json:"event_timestamps"`
}

type answer struct {
	Revision string   `json:"revision"`
	Instant  string   `json:"instant"`
	Features []string `json:"features"`
	Rows     []row    `json:"rows"`
}

func lookup(entities, features int) answer {
	const instant = "2001-06-30T23:51:00Z"
	a := answer{Revision: "sha256:0", Instant: instant}
	for j := range features {
		a.Features = append(a.Features, fmt.Sprintf("feature_%d", j))
	}
	for range entities {
		var r row
		for range features {
			r.Values, r.Statuses, r.EventTimestamps = append(r.Values, rand.Float64()), append(r.Statuses, "PRESENT"), append(r.EventTimestamps, instant)
		}
		a.Rows = append(a.Rows, r)
	}
	return a
}

func BenchmarkMarshal(b *testing.B) {
	a := lookup(100, 50)
	for _, e := range []struct {
		name    string
		marshal func() ([]byte, error)
	}{
		{"encoding-json", func() ([]byte, error) { return json.Marshal(a) }},
		{"json-v2", func() ([]byte, error) { return v2.Marshal(a) }},
		{"goccy", func() ([]byte, error) { return goccy.Marshal(a) }},
		{"sonic", func() ([]byte, error) { return sonic.Marshal(a) }},
	} {
		b.Run(e.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.marshal(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
