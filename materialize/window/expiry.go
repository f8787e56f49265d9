package window

import (
	"time"

	"github.com/forebay/forebay/registry/feature"
)

// expiryMargin is added to the longest window: clocks differ, and an event may come late.
const expiryMargin = time.Hour

// Expiry is how long after its last write an entity's state may still hold an event of a
// window: the longest window with its hop, and an hour. 0, for ever, with a lifetime window.
func (p *Plan) Expiry() time.Duration {
	longest := time.Duration(0)
	for _, w := range p.windows {
		if w.Length == feature.Lifetime {
			return 0
		}
		longest = max(longest, time.Duration(w.Length+w.Hop)*time.Microsecond)
	}
	return longest + expiryMargin
}
