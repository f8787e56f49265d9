// Package lookup answers requests for the newest features of entities from an
// online store: it decides ttl and status and merges windows at the instant of the
// lookup, in one place for every store, and computes on-demand features.
//
// A [Plan] is compiled once for a selection (a service of a revision, with its
// live generations) and then run for any number of requests. A lookup is one
// Store.Get for all views and entities together, each asked for once; records
// are decoded straight into the columns of the answer, only the features that
// are wanted; nothing is allocated for a single value.
package lookup

import (
	"fmt"
	"sync"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Plan is a compiled selection. It is immutable, and safe for concurrent use.
type Plan struct {
	sel   *selection.Selection
	roles []role
	pool  sync.Pool // of *Result
}

// role is how one role of the selection is read.
type role struct {
	view       string
	generation int
	ttl        int64 // microseconds; 0 for any age
	same       int   // the first role of the same view and generation
	keys       []int
	decoder    *rowcodec.Decoder // of newest rows; nil where windows is set
	windows    *windowed
}

// NewPlan compiles a selection. The features and the encoding of each role are
// those of its generation. The ttl is that of its View.View.TTL: a change of ttl
// makes no generation, so a caller that knows a newer definition of the view puts
// its ttl there first.
func NewPlan(sel *selection.Selection) (*Plan, error) {
	p := &Plan{sel: sel, roles: make([]role, len(sel.Roles))}
	for i, r := range sel.Roles {
		v := r.View.View
		to := role{view: v.Name, generation: r.View.Number, keys: r.Keys, same: i}
		if v.Windowed() {
			var err error
			if to.windows, err = newWindowed(r.View, r.Features); err != nil {
				return nil, err
			}
		} else {
			to.decoder = rowcodec.For(r.View).Decoder(r.Features)
		}
		if v.TTL != feature.Lifetime {
			to.ttl = int64(v.TTL)
		}
		for j := range i {
			if p.roles[j].view == to.view && p.roles[j].generation == to.generation {
				to.same = j
				break
			}
		}
		p.roles[i] = to
	}
	p.pool.New = func() any { return p.newResult() }
	return p, nil
}

// Selection is what the plan was compiled from.
func (p *Plan) Selection() *selection.Selection { return p.sel }

// checkRequest sees that a request has the columns that the selection names.
func (p *Plan) checkRequest(req *Request) error {
	check := func(what string, fields []feature.Field, cols []*feature.Column) error {
		if len(cols) != len(fields) {
			return fmt.Errorf("lookup: %d columns of %ss, want %d", len(cols), what, len(fields))
		}
		for i, f := range fields {
			if c := cols[i]; c.Type != f.Type || c.Len < req.Rows {
				return fmt.Errorf("lookup: %s %s: a column of %d %ss, want %d of %s", what, f.Name, c.Len, c.Type, req.Rows, f.Type)
			}
		}
		return nil
	}
	if err := check("key", p.sel.Keys, req.Keys); err != nil {
		return err
	}
	return check("request field", p.sel.Request, req.Request)
}
