package redis

import (
	"context"
	"crypto/sha1" // by which Redis names scripts
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/forebay/forebay/online"
)

//go:embed write.lua
var writeScript string

var writeSHA = func() string {
	sum := sha1.Sum([]byte(writeScript))
	return hex.EncodeToString(sum[:])
}()

// The bounds of one script call, which keeps the server from others for as long
// as it runs (about a microsecond a record), and of one round trip.
const (
	callRecords = 128
	callBytes   = 128 << 10
	tripRecords = 2048
	tripBytes   = 1 << 20

	writeLanes  = 2  // round trips of one Write at a time: Redis works while the next is made
	fillRecords = 64 // fewer of them are not worth a round trip of guessing
)

// Write implements online.Store.
func (s *Store) Write(ctx context.Context, records []online.Record, mode online.WriteMode) (online.WriteResult, error) {
	const doing = "write records"
	var res online.WriteResult
	if err := online.CheckRecords(records); err != nil {
		return res, err
	}
	if err := s.use(ctx, doing); err != nil {
		return res, err
	}
	defer s.open.RUnlock()
	if mode == online.Always {
		newest := online.NewestOfEach(records)
		res.Stale, records = len(records)-len(newest), newest
	}
	if err := s.register(ctx, records); err != nil {
		return res, err
	}
	var mu sync.Mutex
	lanes, going := errgroup.WithContext(ctx) // going ends the starting of others, not what is under way
	lanes.SetLimit(writeLanes)
	for len(records) > 0 && going.Err() == nil {
		n, size := 0, 0
		for n < len(records) && n < tripRecords && size < tripBytes {
			size += len(records[n].Value) + len(records[n].Key.Entity)
			n++
		}
		part := records[:n]
		records = records[n:]
		lanes.Go(func() error {
			applied, done, err := s.writePart(ctx, part, mode)
			mu.Lock()
			defer mu.Unlock()
			res.Applied += applied
			res.Stale += done - applied
			return err
		})
	}
	err := lanes.Wait()
	if err == nil && len(records) > 0 {
		err = ctx.Err()
	}
	if err != nil {
		return res, s.failed(doing, err)
	}
	return res, nil
}

// writePart writes as many records as go into one round trip. It counts the records written and
// those done with.
//
// A generation that is being filled has no records yet, and writing one only where there is none
// takes no script: Redis does three times as many. Those that are there already are compared by the script, and once
// they are the most of a part the script is asked at once.
func (s *Store) writePart(ctx context.Context, records []online.Record, mode online.WriteMode) (applied, done int, err error) {
	if mode == online.IfNewer && len(records) >= fillRecords {
		if filling := s.filling(&records[0].Key); filling != nil && filling.Load() {
			var there []online.Record
			if applied, there, err = s.setAbsent(ctx, records); err != nil {
				return applied, applied, err
			}
			if done = applied; len(there) == 0 {
				return applied, done, nil
			}
			if 2*len(there) > len(records) {
				filling.Store(false)
			}
			records = there
		}
	}
	newer, compared, err := s.trip(ctx, s.calls(records, mode))
	return applied + newer, done + compared, err
}

// filling says whether a generation, which is registered, seems to have few records yet.
func (s *Store) filling(k *online.Key) *atomic.Bool {
	known, ok := s.known.Load(generationName(k.View, k.Generation))
	if !ok {
		return nil
	}
	return known.(*atomic.Bool) //nolint:forcetypeassert // register puts nothing else there
}

// setAbsent writes those records whose keys have none yet, and returns the others: also
// those that met something that passes.
func (s *Store) setAbsent(ctx context.Context, records []online.Record) (applied int, there []online.Record, err error) {
	ring := keyring{s: s, ends: make([]int, 0, len(records))}
	for i := range records {
		ring.add(&records[i].Key)
	}
	pipe := s.db.Pipeline()
	for i, key := range ring.keys() {
		if ttl := records[i].Millis(); ttl > 0 {
			pipe.Do(ctx, "set", key, records[i].Value, "nx", "px", ttl)
		} else {
			pipe.Do(ctx, "set", key, records[i].Value, "nx")
		}
	}
	cmds, _ := pipe.Exec(ctx) // the errors are those of its commands
	for i, cmd := range cmds {
		switch err := cmd.Err(); {
		case err == nil:
			applied++
		case errors.Is(err, goredis.Nil), passing(err):
			there = append(there, records[i])
		default:
			return applied, nil, err
		}
	}
	return applied, there, nil
}

// call is one command of a round trip: a script over some records of one slot,
// or the SET of one.
type call struct {
	keys   []string
	values []any // []byte
	ttl    int64 // of all of them, milliseconds; 0 for none
	always bool
	source bool // the script is sent whole, where the server does not know it
	cmd    goredis.Cmder
}

func (c *call) queue(ctx context.Context, pipe goredis.Pipeliner) {
	args := c.values
	if c.ttl > 0 {
		args = append(slices.Clip(args), c.ttl)
	}
	switch {
	case c.always:
		c.cmd = pipe.Set(ctx, c.keys[0], c.values[0], time.Duration(c.ttl)*time.Millisecond)
	case c.source:
		c.cmd = pipe.Eval(ctx, writeScript, c.keys, args...)
	default:
		c.cmd = pipe.EvalSha(ctx, writeSHA, c.keys, args...)
	}
}

// applied is how many records the command has written, once it was done.
func (c *call) applied() (int, error) {
	if cmd, ok := c.cmd.(*goredis.Cmd); ok {
		return cmd.Int()
	}
	return 1, nil
}

// calls are the commands that write some records.
func (s *Store) calls(records []online.Record, mode online.WriteMode) []*call {
	ring := keyring{s: s, ends: make([]int, 0, len(records))}
	order := make([]int, len(records))
	for i := range records {
		ring.add(&records[i].Key)
		order[i] = i
	}
	keys := ring.keys()
	slots := make([]uint16, len(records)) // all 0 where there are no slots
	if s.o.Mode == Cluster {
		for i, k := range keys {
			slots[i] = slot(k[s.tagStart() : s.tagStart()+tagLen])
		}
		slices.SortStableFunc(order, func(a, b int) int { return int(slots[a]) - int(slots[b]) })
	}
	var calls []*call
	var last *call
	size := 0
	for n, i := range order {
		ttl := records[i].Millis()
		if last == nil || mode == online.Always || slots[i] != slots[order[n-1]] || ttl != last.ttl || len(last.keys) == callRecords || size >= callBytes {
			last, size = &call{always: mode == online.Always, ttl: ttl}, 0
			calls = append(calls, last)
		}
		last.keys, last.values = append(last.keys, keys[i]), append(last.values, records[i].Value)
		size += len(records[i].Value)
	}
	return calls
}

// trip does commands in one round trip for each shard, and those again that
// failed for a passing reason. It counts the records written and those done with.
func (s *Store) trip(ctx context.Context, calls []*call) (applied, done int, err error) {
	for attempt := 0; ; attempt++ {
		s.do(ctx, calls)
		var again []*call
		var last, failed error
		wait := false
		for _, c := range calls {
			err := c.cmd.Err()
			switch {
			case err == nil:
				n, err := c.applied()
				if err != nil {
					failed = fmt.Errorf("the answer of a script: %w", err)
					continue
				}
				applied, done = applied+n, done+len(c.keys)
			case goredis.HasErrorPrefix(err, "NOSCRIPT"):
				c.source = true
				again, last = append(again, c), err
			case goredis.IsTryAgainError(err) && len(c.keys) > 1:
				// The slot is moving, and has some of the keys here and some there.
				for i := range c.keys {
					again = append(again, &call{keys: c.keys[i : i+1], values: c.values[i : i+1], ttl: c.ttl, source: c.source})
				}
				last = err
			case passing(err):
				again, last, wait = append(again, c), err, true
			default:
				s.reload(ctx, err)
				failed = err
			}
		}
		if failed != nil || len(again) == 0 {
			return applied, done, failed
		}
		calls = again
		if wait {
			if err := s.pause(ctx, attempt, s.retries(last), last); err != nil {
				return applied, done, err
			}
		} else if attempt > 10 {
			return applied, done, last
		}
	}
}

// do sends commands, in one round trip for each shard; their errors are theirs.
//
// In a Cluster it asks each master by its own client: a pipeline of the Cluster's client in which the
// first command is to be tried again and another is redirected sends that one twice, at the
// same time, and writes what becomes of both into one place (go-redis 9.23, pipelineReadCmds). What a master
// redirects, or does not answer, is then asked of the Cluster's client alone.
func (s *Store) do(ctx context.Context, calls []*call) {
	send := func(db interface{ Pipeline() goredis.Pipeliner }, calls []*call) {
		pipe := db.Pipeline()
		for _, c := range calls {
			c.queue(ctx, pipe)
		}
		_, _ = pipe.Exec(ctx) // the errors are those of its commands
	}
	cluster, ok := s.db.(*goredis.ClusterClient)
	if !ok {
		send(s.db, calls)
		return
	}
	shards := map[*goredis.Client][]*call{}
	for _, c := range calls {
		master, err := cluster.MasterForKey(ctx, c.keys[0])
		if err != nil {
			send(cluster, []*call{c})
			continue
		}
		shards[master] = append(shards[master], c)
	}
	var sent sync.WaitGroup
	for master, calls := range shards {
		sent.Go(func() { send(master, calls) })
	}
	sent.Wait()
	for _, calls := range shards {
		for _, c := range calls {
			if err := c.cmd.Err(); err != nil && ctx.Err() == nil {
				if _, answered := errors.AsType[goredis.Error](err); !answered || isMoved(err) {
					send(cluster, []*call{c})
				}
			}
		}
	}
}

// movedRetries are for redirections alone, beside Options.Retries.
const movedRetries = 5

// retries is how often a call that met err is tried again.
func (s *Store) retries(err error) int {
	if isMoved(err) {
		// Shards that hand over a slot may point at each other until both know.
		return max(s.o.Retries, 0) + movedRetries
	}
	return s.o.Retries
}

// pause waits before a retry; it returns err if there have been limit of them.
func (s *Store) pause(ctx context.Context, attempt, limit int, err error) error {
	if attempt >= limit {
		return err
	}
	d := min(s.o.MinBackoff<<min(attempt, 16), s.o.MaxBackoff)
	d = d/2 + rand.N(d/2+1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// formatField of the hash of generations holds the version of keys and hashes;
// it is longer than a generationID.
const (
	formatField = "format!"
	format      = "1"
)

func (s *Store) checkFormat(v string) error {
	if v != format {
		return fmt.Errorf("online store at %s: the keys of project %s are of format %q, this program knows %s: use the release of Forebay that wrote them", s.addr, s.o.Project, v, format)
	}
	return nil
}

// register makes sure, before the first write to a generation, that no other
// generation of the project has the same short name, and that the keys there are
// of this format.
func (s *Store) register(ctx context.Context, records []online.Record) error {
	for i := range records {
		k := &records[i].Key
		if i > 0 && k.Generation == records[i-1].Key.Generation && k.View == records[i-1].Key.View {
			continue
		}
		name := generationName(k.View, k.Generation)
		if _, ok := s.known.Load(name); ok {
			continue
		}
		id := s.generationID(k.View, k.Generation)
		pipe := s.db.Pipeline()
		pipe.HSetNX(ctx, s.generationsKey(), formatField, format)
		pipe.HSetNX(ctx, s.generationsKey(), id, name)
		both := pipe.HMGet(ctx, s.generationsKey(), formatField, id)
		if _, err := pipe.Exec(ctx); err != nil {
			return s.failed("register generation "+name, err)
		}
		v, _ := both.Val()[0].(string)
		if err := s.checkFormat(v); err != nil {
			return err
		}
		if other, _ := both.Val()[1].(string); other != name {
			return fmt.Errorf("online store at %s: the keys of %s would be those of %s, by a rare coincidence of their hashes: %w", s.addr, name, other, errSameKeys)
		}
		filling := new(atomic.Bool)
		filling.Store(true)
		s.known.Store(name, filling)
	}
	return nil
}

var errSameKeys = errors.New("rename the view")
