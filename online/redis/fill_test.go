package redis

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
)

// TestFill: batches large enough to be written without the script leave what the script
// would: the newest of each key, from several writers at once, whatever was there before.
func TestFill(t *testing.T) {
	cluster := testenv.RedisCluster(t)
	for name, o := range map[string]Options{
		"Single":  {Addrs: []string{testenv.Redis(t).Addr}},
		"Cluster": {Addrs: cluster.Addrs(), Mode: Cluster},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, o)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			const keys, writers, rounds = 3000, 3, 4
			newest := map[string]uint64{}
			batches := make([][][]online.Record, writers)
			total := 0
			for w := range batches {
				for range rounds {
					batch := make([]online.Record, fillRecords+rng.IntN(3*tripRecords))
					for i := range batch {
						entity, order := fmt.Sprint("e", rng.IntN(keys)), 1+rng.Uint64N(1000)
						batch[i] = rec("v", entity, order, fmt.Sprint(order))
						if order%2 == 0 {
							batch[i].TTL = time.Hour
						}
						newest[entity] = max(newest[entity], order)
					}
					batches[w] = append(batches[w], batch)
					total += len(batch)
				}
			}
			var mu sync.Mutex
			var sum online.WriteResult
			var wg sync.WaitGroup
			for _, mine := range batches {
				wg.Go(func() {
					for _, batch := range mine {
						res, err := s.Write(t.Context(), batch, online.IfNewer)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						sum.Applied, sum.Stale = sum.Applied+res.Applied, sum.Stale+res.Stale
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if sum.Applied+sum.Stale != total || sum.Applied < len(newest) {
				t.Errorf("%+v of %d records with %d keys", sum, total, len(newest))
			}
			for entity, want := range newest {
				dst := make([][]byte, 1)
				if err := s.Get(t.Context(), []online.Key{rec("v", entity, 0, "").Key}, dst); err != nil {
					t.Fatal(err)
				}
				if dst[0] == nil || binary.BigEndian.Uint64(dst[0][1:]) != want || string(dst[0][online.OrderStart+online.OrderLen:]) != fmt.Sprint(want) {
					t.Fatalf("%s: %q, want order %d", entity, dst[0], want)
				}
			}
			// Writing all of it again changes nothing, and finds out that the generation is full.
			for _, mine := range batches {
				for _, batch := range mine {
					if res, err := s.Write(t.Context(), batch, online.IfNewer); err != nil || res.Applied != 0 || res.Stale != len(batch) {
						t.Fatalf("again: %+v of %d, %v", res, len(batch), err)
					}
				}
			}
			if s.filling(&batches[0][0][0].Key).Load() {
				t.Error("it takes a full generation for one that is being filled")
			}
		})
	}
}
