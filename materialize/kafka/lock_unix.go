//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package kafka

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks a file for as long as it is open; it never waits.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}
