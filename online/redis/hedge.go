package redis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// maxHedges bounds the reads of replicas under way: where everything is slow, more
// of them would make it slower.
const maxHedges = 64

// failoverRetries are for what neither master nor replica has answered, beside Options.Retries: they
// take a second or two.
const failoverRetries = 6

// readHedged reads keys from the masters and, where those fail or do not answer
// within Options.Hedge, from replicas as well: the first good answer counts. A replica that becomes the master
// closes its connections, and for a moment Sentinel names the dead master in its place: where
// neither answers, both are asked again. The error is that of the masters.
func (s *Store) readHedged(ctx context.Context, db goredis.UniversalClient, keys []string, dst [][]byte) error {
	keys = slices.Clone(keys)
	for i := range keys { // reads may outlive the call, and with it the memory of its keys
		keys[i] = strings.Clone(keys[i])
	}
	for attempt := 0; ; attempt++ {
		err := s.readFirst(ctx, db, keys, dst)
		if err == nil || ctx.Err() != nil || errors.Is(err, goredis.ErrClosed) || errors.Is(err, goredis.ErrPoolTimeout) {
			return err
		}
		if _, reply := errors.AsType[goredis.Error](err); reply && !passing(err) {
			return err
		}
		if err := s.pause(ctx, attempt, max(s.o.Retries, 0)+failoverRetries, err); err != nil {
			return err
		}
	}
}

func (s *Store) readFirst(ctx context.Context, db goredis.UniversalClient, keys []string, dst [][]byte) error {
	type answer struct {
		records [][]byte
		err     error
		replica bool
	}
	answers := make(chan answer, 2) // nobody waits for the slower one
	ask := func(db goredis.UniversalClient, replica bool) {
		s.reads.Go(func() {
			if replica {
				defer s.hedges.Add(-1)
			}
			records := make([][]byte, len(keys))
			err := s.read(ctx, db, keys, records)
			answers <- answer{records, err, replica}
		})
	}
	ask(db, false)
	after := time.NewTimer(s.o.Hedge)
	defer after.Stop()
	var failed error
	for waiting, hedged := 1, false; waiting > 0; {
		var hedge bool
		select {
		case a := <-answers:
			if a.err == nil {
				copy(dst, a.records)
				return nil
			}
			waiting--
			if hedge = !a.replica; hedge || failed == nil {
				failed = a.err
			}
		case <-after.C:
			hedge = true
		case <-ctx.Done():
			return ctx.Err()
		}
		if hedge && !hedged && ctx.Err() == nil {
			if hedged = s.hedges.Add(1) <= maxHedges; !hedged {
				s.hedges.Add(-1)
				continue
			}
			ask(s.replicas, true)
			waiting++
		}
	}
	return failed
}
