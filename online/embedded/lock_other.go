//go:build !unix || solaris || aix

package embedded

import (
	"errors"
	"os"
)

var errLocked = errors.New("locked by another process")

func lockFile(*os.File) error {
	return errors.New("the embedded online store needs flock, which this system lacks: use Redis")
}
