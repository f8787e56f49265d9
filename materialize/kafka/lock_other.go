//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package kafka

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock two processes could ruin the folder.
func lockFile(*os.File) error {
	return errors.New("files cannot be locked on this system; use a Kafka of its own")
}
