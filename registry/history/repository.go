package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/forebay/forebay/registry"
)

// Repository is a registry.Repository in an object store. It keeps the newest
// revisions it has read, which never change.
type Repository struct {
	at      string // the URL, for messages
	objects objects

	mu   sync.Mutex
	kept map[int]*registry.Revision // by number
}

var _ registry.Repository = (*Repository)(nil)

// keep is how many revisions are kept in memory.
const keep = 64

func newRepository(at string, o objects) *Repository {
	return &Repository{at: at, objects: o, kept: map[int]*registry.Revision{}}
}

// Head implements registry.Repository.
func (r *Repository) Head(ctx context.Context) (*registry.Revision, error) {
	n, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("registry %s is empty: %w", r.at, registry.ErrNoRevision)
	}
	return r.read(ctx, n)
}

// minPrefix is the number of hex digits from which on a prefix of an ID is looked for.
const minPrefix = 8

// Revision implements registry.Repository.
func (r *Repository) Revision(ctx context.Context, id string) (*registry.Revision, error) {
	n, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	if number, err := strconv.Atoi(id); err == nil && len(id) < minPrefix {
		if number < 1 || number > n {
			return nil, fmt.Errorf("%w: registry %s has revisions 1 to %d, not %d", registry.ErrNoRevision, r.at, n, number)
		}
		return r.read(ctx, number)
	}
	digits := strings.TrimPrefix(id, idPrefix)
	if len(digits) < minPrefix || len(digits) > idDigits || strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%w: %q is neither a revision's number nor an ID: sha256: and %d hex digits, of which the first %d will do if they are unique", registry.ErrNoRevision, id, idDigits, minPrefix)
	}
	var found *registry.Revision
	for ; n > 0; n-- {
		rev, err := r.read(ctx, n)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(rev.ID, idPrefix+digits) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: %q may be revision %d (%s) or revision %d (%s): give more digits", registry.ErrNoRevision, id, rev.Number, rev.ID, found.Number, found.ID)
		}
		found = rev
	}
	if found == nil {
		return nil, fmt.Errorf("%w: registry %s has none with the ID %s", registry.ErrNoRevision, r.at, id)
	}
	return found, nil
}

// Append implements registry.Repository.
func (r *Repository) Append(ctx context.Context, rev *registry.Revision) error {
	n, err := r.newest(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		head, err := r.read(ctx, n)
		if err != nil {
			return err
		}
		if head.ID != rev.Parent {
			return conflict(head)
		}
	} else if rev.Parent != "" {
		return fmt.Errorf("%w: it is empty now, and the revision was to follow %s: plan again", registry.ErrConflict, rev.Parent)
	}
	next := *rev
	next.Number = n + 1
	object, id, err := encode(&next)
	if err != nil {
		return fmt.Errorf("appending revision %d: %w", next.Number, err)
	}
	if err := r.create(ctx, next.Number, object, id); err != nil {
		return err
	}
	rev.ID, rev.Number = id, next.Number
	return nil
}

// create creates the object of a revision. A store that retries a write may
// refuse the second attempt because the first one succeeded, so what lies there
// afterwards decides who has won.
func (r *Repository) create(ctx context.Context, number int, object []byte, id string) error {
	name := objectName(number)
	failed := r.objects.create(ctx, name, object)
	if failed == nil {
		return nil
	}
	winner, err := r.read(ctx, number)
	switch {
	case err == nil && winner.ID == id:
		return nil
	case err == nil:
		return conflict(winner)
	case errors.Is(failed, fs.ErrExist):
		return fmt.Errorf("%w: somebody else appended %s, which cannot be read: %w", registry.ErrConflict, name, err)
	}
	return fmt.Errorf("registry %s: writing %s: %w", r.at, name, failed)
}

// conflict says which revision was appended instead.
func conflict(winner *registry.Revision) error {
	by := ""
	if winner.Author != "" {
		by = " by " + winner.Author
	}
	return fmt.Errorf("%w: revision %d (%s) was appended%s at %s: plan again", registry.ErrConflict, winner.Number, winner.ID, by, winner.Time.Format(time.RFC3339))
}

// readers is how many objects History reads at once: object stores answer slowly, and to many at a time.
const readers = 16

// History implements registry.Repository. It checks that each revision is the
// parent of the next.
func (r *Repository) History(ctx context.Context, limit int) ([]*registry.Revision, error) {
	n, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	count := n
	if limit > 0 {
		count = min(n, limit)
	}
	revs, errs := make([]*registry.Revision, count), make([]error, count)
	var wg sync.WaitGroup
	for first := range min(readers, count) {
		wg.Go(func() {
			for i := first; i < count; i += readers {
				revs[i], errs[i] = r.read(ctx, n-i)
			}
		})
	}
	wg.Wait()
	for i, rev := range revs {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if i > 0 && revs[i-1].Parent != rev.ID {
			return nil, fmt.Errorf("registry %s: %s is %s, but %s follows %s: one of them was replaced", r.at, objectName(rev.Number), rev.ID, objectName(rev.Number+1), revs[i-1].Parent)
		}
	}
	return revs, nil
}

// ViewAt implements registry.Repository.
func (r *Repository) ViewAt(ctx context.Context, view string, generation int) (*registry.Revision, error) {
	n, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	for ; n > 0; n-- {
		rev, err := r.read(ctx, n)
		if err != nil {
			return nil, err
		}
		if g := rev.Generation(view); g != 0 && g == generation {
			return rev, nil
		}
	}
	return nil, fmt.Errorf("%w with generation %d of view %q in registry %s", registry.ErrNoRevision, generation, view, r.at)
}

// Close implements registry.Repository.
func (r *Repository) Close() error { return r.objects.close() }

// newest is the number of the newest revision, 0 if there is none.
func (r *Repository) newest(ctx context.Context) (int, error) {
	names, err := r.objects.list(ctx, objectFolder)
	if err != nil {
		return 0, fmt.Errorf("registry %s: listing its revisions: %w", r.at, err)
	}
	var numbers []int
	for _, name := range names {
		if n := objectNumber(name); n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i+1 {
			return 0, fmt.Errorf("registry %s: %s is missing though %s is there", r.at, objectName(i+1), objectName(n))
		}
	}
	return len(numbers), nil
}

// read reads the revision of a number, and checks it.
func (r *Repository) read(ctx context.Context, number int) (*registry.Revision, error) {
	r.mu.Lock()
	rev := r.kept[number]
	r.mu.Unlock()
	if rev != nil {
		return rev, nil
	}
	name := objectName(number)
	object, err := r.objects.read(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("registry %s: reading %s: %w", r.at, name, err)
	}
	if rev, err = decode(object); err != nil {
		return nil, fmt.Errorf("registry %s: %s: %w", r.at, name, err)
	}
	if rev.Number != number {
		return nil, fmt.Errorf("registry %s: %s: %w: it is revision %d", r.at, name, ErrAltered, rev.Number)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.kept {
		if len(r.kept) < keep {
			break
		}
		delete(r.kept, n) // any one: it is read again if need be
	}
	r.kept[number] = rev
	return rev, nil
}
