package online

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// ErrFull means: the store has no room for a write. It is an ErrUnavailable too: once
// there is room, trying again helps.
var ErrFull = fmt.Errorf("%w: it is full", ErrUnavailable)

// Unavailable says that the store at an address did not do what was being
// done, and why: an ErrUnavailable that also is err. A context that was
// cancelled by the caller is no fault of the store and stays what it is.
func Unavailable(address, doing string, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("online store at %s: %s: %w", address, doing, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %s: %s: no answer in time: %w", ErrUnavailable, address, doing, context.DeadlineExceeded)
	}
	return fmt.Errorf("%w: %s: %s: %w", ErrUnavailable, address, doing, err)
}
