package parquet

import (
	"os"
	"syscall"
)

// beginWriting has the disk take n bytes of a file, and does not wait for it. That it may fail does not
// matter: Sync tells.
func beginWriting(f *os.File, offset, n int64) {
	const write = 2 // SYNC_FILE_RANGE_WRITE of sync_file_range(2)
	_ = syscall.SyncFileRange(int(f.Fd()), offset, n, write)
}
