package embedded

import (
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// room watches the space left on the disk. A database that meets a full disk in
// the middle of its log cannot go on; so writes are refused before.
type room struct {
	fs  vfs.FS
	dir string
	min uint64 // what must stay free

	mu      sync.Mutex
	checked time.Time
	left    int64 // bytes that may be written before the disk is looked at again
}

const (
	roomEvery = time.Second
	roomBytes = 16 << 20
)

// take asks for room for size bytes.
func (r *room) take(size int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left -= int64(size); r.left >= 0 && time.Since(r.checked) < roomEvery {
		return nil
	}
	usage, err := r.fs.GetDiskUsage(r.dir)
	if err != nil {
		return nil // a file system that cannot say
	}
	r.checked = time.Now()
	// Compactions may need as much again before they free what they replace.
	if need := r.min + 2*uint64(size); usage.AvailBytes < need {
		r.left = 0
		return fmt.Errorf("%d MiB are free on its disk, and it wants %d", usage.AvailBytes>>20, need>>20)
	}
	r.left = min(roomBytes, int64(min(usage.AvailBytes-r.min, 1<<62))/2)
	return nil
}
