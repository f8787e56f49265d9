package redis

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
)

// TestMemory measures what an entity of 50 float64 features takes, beside one
// string of the 400 bytes of its numbers under a plain key: within 5 %.
func TestMemory(t *testing.T) {
	const entities, features = 10_000, 50
	used := func(fill func(n *testenv.RedisNode)) float64 {
		n := testenv.RedisServer(t)
		c := n.Client(t)
		memory := func() float64 {
			m, err := strconv.ParseFloat(parseInfo(c.Info(t.Context(), "memory").Val())["used_memory_dataset"], 64)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		before := memory()
		fill(n)
		size, err := c.DBSize(t.Context()).Result()
		if err != nil || size < entities {
			t.Fatalf("%d keys, %v", size, err)
		}
		return (memory() - before) / entities
	}
	raw := used(func(n *testenv.RedisNode) {
		pipe := n.Client(t).Pipeline()
		for i := range entities {
			b := make([]byte, 8*features)
			for j := range features {
				binary.LittleEndian.PutUint64(b[8*j:], rand.Uint64())
			}
			pipe.Set(t.Context(), fmt.Sprintf("user_stats:%d", i), b, 0)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	ours := used(func(n *testenv.RedisNode) {
		var fields []feature.Field
		var cols []*feature.Column
		for j := range features {
			f := feature.Field{Name: fmt.Sprintf("feature_%d", j), Type: feature.TypeFloat64}
			fields, cols = append(fields, f), append(cols, feature.NewColumn(f.Name, f.Type, 1))
		}
		codec := rowcodec.New("bench/user_stats@1", fields)
		var records []online.Record
		for i := range entities {
			for _, c := range cols {
				c.Reset()
				c.AppendBits(rand.Uint64())
			}
			rec, err := codec.Append(nil, feature.Version{EventTime: 1}, cols, 0)
			if err != nil {
				t.Fatal(err)
			}
			key := feature.AppendKey(nil, feature.OfInt64(int64(i)), true)
			records = append(records, online.Record{Key: online.Key{View: "user_stats", Generation: 1, Entity: key}, Value: rec})
		}
		s := open(t, Options{Addrs: []string{n.Addr}, Project: "bench"})
		if res, err := s.Write(t.Context(), records, online.IfNewer); err != nil || res.Applied != entities {
			t.Fatalf("%+v, %v", res, err)
		}
	})
	t.Logf("bytes per entity: %.0f, of a bare string %.0f: %.1f %%", ours, raw, 100*ours/raw)
	if ours > 1.05*raw {
		t.Errorf("%.0f bytes per entity, more than 5 %% above the %.0f of a bare string", ours, raw)
	}
}
