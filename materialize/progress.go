package materialize

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/forebay/forebay/registry/feature"
)

// sink applies the rows of a topic to one view generation. It holds nothing back: what add has
// returned for is in the online store.
type sink interface {
	// add applies a chunk's rows, and returns those that the view refuses.
	add(c *Chunk) ([]Bad, error)
	// forget forgets a partition that goes to somebody else.
	forget(p int32)
	// full reports whether a checkpoint would free memory that is wanted.
	full() bool
	// checkpoint stores how far the view is.
	checkpoint(topicID string) error
	// progress is how far it is.
	at() *progress
}

// progress is how far a view generation is in the partitions of the topic that feeds it.
type progress struct {
	*compiledView
	s     *session
	epoch int64 // of its states; 0 for newest rows

	next   map[int32]int64 // per partition, the next offset that is not applied
	stored map[int32]int64 // what the resume points say, or the first offset there is
	known  map[int32]int64 // what the resume points said last
	slots  map[int32]int   // which mark is the next to be written
	// unmarked are the partitions of which this session has made no mark yet.
	unmarked map[int32]bool

	out  *feature.Batch // what the view makes of a chunk
	keys *keyColumns
}

func newProgress(s *session, v *compiledView) progress {
	return progress{compiledView: v, s: s, epoch: v.epoch,
		next: map[int32]int64{}, stored: map[int32]int64{}, known: map[int32]int64{}, slots: map[int32]int{}, unmarked: map[int32]bool{},
		out: feature.NewBatch(v.program.Fields(), 0), keys: newKeyColumns(v, s.src)}
}

func (k *progress) at() *progress { return k }

func (k *progress) full() bool { return false }

// assign says that a partition came, to be gone on with from an offset. from is what the
// resume points say of it, nil for nothing.
func (k *progress) assign(p int32, next int64, from *partitionResume, slot int) {
	k.next[p], k.stored[p], k.slots[p], k.unmarked[p] = next, next, slot, true
	if from != nil {
		k.known[p] = next
	}
}

func (k *progress) forget(p int32) {
	delete(k.next, p)
	delete(k.stored, p)
	delete(k.known, p)
	delete(k.slots, p)
	delete(k.unmarked, p)
}

// held reports whether all of a chunk is applied.
func (k *progress) held(c *Chunk) bool {
	for _, p := range c.Partitions {
		if p.Next > k.next[p.ID] {
			return false
		}
	}
	return true
}

// advance notes that a chunk has been applied.
func (k *progress) advance(c *Chunk) {
	for _, p := range c.Partitions {
		k.next[p.ID] = max(k.next[p.ID], p.Next)
	}
}

// nullKeys are the rows that the view's filter selects and whose entity key is not
// whole, as dead letters. Apply counts them only.
func (k *progress) nullKeys(c *Chunk) []Bad {
	return k.keys.refused(c.Rows, func(i int) (int32, int64, bool) {
		p, offset := c.position(i)
		return p, offset, offset >= k.next[p]
	})
}

// checkpoint stores how far the view is. If the store holds less than was stored before it has lost
// writes, and if another server takes the writes now it may have; then the view
// goes back to what is certain.
func (k *progress) checkpoint(topicID string) error {
	topic := k.s.topic
	positions := map[string]string{}
	for p, next := range k.next {
		if next > k.stored[p] || k.unmarked[p] {
			setMark(positions, topic, p, k.slots[p], mark{next: next, epoch: k.epoch, server: k.s.server})
		}
	}
	if len(positions) == 0 && len(k.known) == 0 && k.epoch == 0 {
		return nil
	}
	if len(positions) > 0 && topicID != "" {
		positions[resumeTopicID(topic)] = topicID
	}
	if len(positions) > 0 && k.epoch > 0 && k.s.partitions > 0 {
		positions[resumePartitions] = strconv.Itoa(k.s.partitions)
	}
	var lost error
	err := k.s.retry("the online store", func(ctx context.Context) error {
		resumes, err := k.s.cfg.Online.Resumes(ctx, k.ViewGeneration)
		if err != nil {
			return err
		}
		stored, err := streamResumes(topic, resumes)
		if err != nil {
			return err
		}
		epoch, err := resumedEpoch(resumes)
		if err != nil {
			return err
		}
		if lost = k.lost(topic, stored, epoch); lost != nil || len(positions) == 0 {
			return nil
		}
		return k.s.cfg.Online.SetResumes(ctx, k.ViewGeneration, positions)
	})
	if err == nil && lost == nil {
		err = k.s.sameServer(k.compiledView)
	}
	switch {
	case err != nil:
		return fmt.Errorf("store the resume points of %s: %w", k.ViewGeneration, err)
	case lost != nil:
		return lost
	}
	for p := range maps.Keys(k.next) {
		if _, written := positions[resumeName(topic, p)]; written {
			k.stored[p], k.known[p], k.slots[p] = k.next[p], k.next[p], 1-k.slots[p]
			delete(k.unmarked, p)
		}
	}
	return nil
}

// lost says what the online store lacks of what it had.
func (k *progress) lost(topic string, stored map[int32]*partitionResume, epoch int64) error {
	if k.epoch != 0 && epoch != k.epoch {
		return fmt.Errorf("%w: the windows of %s were built anew: epoch %d, and not %d", ErrAgain, k.ViewGeneration, epoch, k.epoch)
	}
	for p, at := range k.known {
		now := int64(0)
		if r := stored[p]; r != nil {
			now = r.next
		}
		if now < at {
			return fmt.Errorf("%w: the online store has lost writes to view %s: it held %s/%d up to offset %d, and holds it up to %d", ErrAgain, k.ViewGeneration, topic, p, at, now)
		}
	}
	return nil
}

// sameServer is an ErrAgain if another server takes the online store's writes than at the session's start.
func (s *session) sameServer(v *compiledView) error {
	var now string
	err := s.retry("the online store", func(ctx context.Context) (err error) {
		now, err = s.cfg.Online.Server(ctx)
		return err
	})
	if err != nil || now == s.server {
		return err
	}
	return fmt.Errorf("%w: another server takes the online store's writes now, %s and not %s; it may lack the last ones to view %s", ErrAgain, now, s.server, v)
}
