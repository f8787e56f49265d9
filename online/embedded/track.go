package embedded

import (
	"context"
	"slices"
	"sync"

	"github.com/forebay/forebay/online"
)

var _ online.Tracker = (*Store)(nil)

// trackers are told of every write: all of them go through this process.
type trackers struct {
	mu   sync.RWMutex
	list []online.Tracking
}

// Track implements online.Tracker. A change is told once it can be read, and before the Write
// returns. Records that expire and generations that are dropped are not told.
func (s *Store) Track(ctx context.Context, t online.Tracking) {
	s.trackers.mu.Lock()
	s.trackers.list = append(s.trackers.list, t)
	s.trackers.mu.Unlock()
	t.Watching()
	<-ctx.Done()
	s.trackers.mu.Lock()
	defer s.trackers.mu.Unlock()
	s.trackers.list = slices.DeleteFunc(s.trackers.list, func(other online.Tracking) bool { return other == t })
}

func (t *trackers) changed(records []online.Record) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, one := range t.list {
		for i := range records {
			one.Forget(records[i].Key)
		}
	}
}
