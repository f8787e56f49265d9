package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forebay/forebay/registry/feature"
)

// Revision is one applied state of a project. It is immutable; its ID is
// "sha256:" and the SHA-256, in hex, of its canonical form (docs/format/revision.md).
type Revision struct {
	ID     string    `json:"-"`
	Parent string    `json:"parent,omitempty"` // the ID of the revision before; "" for the first
	Number int       `json:"number"`           // 1 for the first
	Author string    `json:"author,omitempty"`
	Time   time.Time `json:"time"`             // UTC, to the microsecond
	Commit string    `json:"commit,omitempty"` // of Git, "-dirty" appended where files differ from it
	Note   string    `json:"note,omitempty"`   // why, where a command says it: "rollback to sha256:…"

	Project *Project `json:"project"`
	// Generations has one entry per feature view, sorted by view.
	Generations []Generation `json:"generations"`
}

// Generation is one meaning of a view's stored values. A change of keys, source,
// filter, expressions, aggregations or types makes a new one; a change back to
// an earlier meaning takes its number again.
type Generation struct {
	View        string `json:"view"`
	Number      int    `json:"number"`      // from 1
	Fingerprint string `json:"fingerprint"` // SHA-256, in hex, of what decides the meaning
}

// Generation is the generation of a view in this revision; 0 if it has no such view.
func (r *Revision) Generation(view string) int {
	for _, g := range r.Generations {
		if g.View == view {
			return g.Number
		}
	}
	return 0
}

// ViewGeneration is one generation of a feature view, with what it is computed from.
type ViewGeneration struct {
	Project *Project // in which the generation is defined
	View    *FeatureView
	Number  int // of the generation, from 1
}

// Source is the source the generation is computed from.
func (g ViewGeneration) Source() *Source { return g.Project.Source(g.View.Source) }

// JoinKeys are the columns of the entity key, in order.
func (g ViewGeneration) JoinKeys() []feature.Field { return g.Project.JoinKeys(g.View) }

// Fields are the columns of the generation's rows: the join keys, then what the view stores
// of an event: its features or, where it is windowed, its inputs.
func (g ViewGeneration) Fields() []feature.Field {
	fs := g.JoinKeys()
	for _, f := range g.View.Stored() {
		fs = append(fs, f.Field)
	}
	return fs
}

func (g ViewGeneration) String() string { return fmt.Sprintf("%s@%d", g.View.Name, g.Number) }

// Errors of a Repository, to be tested with errors.Is.
var (
	ErrNoRevision = errors.New("no such revision")
	// ErrConflict: another revision was appended since the parent was read.
	ErrConflict = errors.New("the registry has changed meanwhile")
)

// Repository is the append-only log of a project's revisions. It is safe for
// concurrent use, by several processes too.
type Repository interface {
	// Head is the newest revision, or ErrNoRevision.
	Head(ctx context.Context) (*Revision, error)
	// Revision finds a revision by its ID, by a prefix of eight hex digits or
	// more that is unique, or by its number. ErrNoRevision if there is none.
	Revision(ctx context.Context, id string) (*Revision, error)
	// Append adds a revision after r.Parent and fills in ID and Number. It
	// fails with ErrConflict, and adds nothing, if Parent is not the head.
	Append(ctx context.Context, r *Revision) error
	// History lists the revisions, newest first; limit 0 means all.
	History(ctx context.Context, limit int) ([]*Revision, error)
	// ViewAt finds the newest revision in which a view had a generation, so
	// that its definition can be read. ErrNoRevision if there is none.
	ViewAt(ctx context.Context, view string, generation int) (*Revision, error)
	// Close releases the object store.
	Close() error
}
