package history

import (
	"errors"
	"fmt"
	"time"

	"github.com/forebay/forebay/registry"
)

// ErrNothingToRollBack says that the head declares already what a rollback would.
var ErrNothingToRollBack = errors.New("nothing to roll back")

// Rollback makes the revision that follows head and declares what an older one
// did, with the generations its views had: to be appended. The log only grows, so
// a rollback can be rolled back too.
func Rollback(head, to *registry.Revision, author string, now time.Time) (*registry.Revision, error) {
	if head.ID == to.ID {
		return nil, fmt.Errorf("%w: revision %d (%s) is the head", ErrNothingToRollBack, to.Number, to.ID)
	}
	return &registry.Revision{
		Parent: head.ID, Author: author, Time: now, Commit: to.Commit, Note: "rollback to " + to.ID,
		Project: to.Project, Generations: to.Generations,
	}, nil
}
