package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	goredis "github.com/redis/go-redis/v9"

	"github.com/forebay/forebay/online"
)

var _ online.Store = (*Store)(nil)

// Store keeps the records of one project.
type Store struct {
	o    Options
	addr string
	db   goredis.UniversalClient

	readers  readers                 // of the servers of db
	replicas goredis.UniversalClient // for hedged reads; nil without
	hedges   atomic.Int32            // under way
	reads    sync.WaitGroup          // those that outlive their Get

	ids   sync.Map // generationName -> its generationID, a string
	named sync.Map // generationID -> generation: of those in ids
	known sync.Map // generationName -> *atomic.Bool: registered, and whether it is being filled

	rings sync.Pool // of *keyring

	open   sync.RWMutex // held for reading during calls
	closed bool
}

// Open makes a store; the error is one of the options. It does not connect: Ping
// tells whether Redis is there, and Check whether it is set up to keep records.
func Open(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &Store{o: o, addr: o.address(), db: o.client(false)}
	s.readers.o = &s.o
	if o.Hedge > 0 {
		s.replicas = o.client(true)
	}
	return s, nil
}

// use begins a call; the caller calls s.open.RUnlock after it, unless there was an error.
func (s *Store) use(ctx context.Context, doing string) error {
	if err := ctx.Err(); err != nil {
		return online.Unavailable(s.addr, doing, err)
	}
	s.open.RLock()
	if s.closed {
		s.open.RUnlock()
		return fmt.Errorf("%w: %s: %s", online.ErrClosed, s.addr, doing)
	}
	return nil
}

// generationID is generationID, which is the same for every record of a view.
func (s *Store) generationID(view string, number int) string {
	name := generationName(view, number)
	if id, ok := s.ids.Load(name); ok {
		return id.(string)
	}
	id := generationID(view, number)
	s.named.Store(id, generation{view, number, id})
	s.ids.Store(name, id)
	return id
}

// getKeys is the number of keys of one MGET: it keeps the server for a fraction of a millisecond.
const getKeys = 512

// Get implements online.Store.
func (s *Store) Get(ctx context.Context, keys []online.Key, dst [][]byte) error {
	const doing = "get records"
	if len(dst) != len(keys) {
		panic(fmt.Sprintf("redis: Get of %d keys into %d records", len(keys), len(dst)))
	}
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	if len(keys) == 0 {
		return nil
	}
	ring := s.borrow()
	defer s.giveBack(ring)
	for i := range keys {
		ring.add(&keys[i])
	}
	read := s.read
	if s.replicas != nil {
		read = s.readHedged
	}
	if err := read(ctx, s.db, ring.keys(), dst); err != nil {
		return s.failed(doing, err)
	}
	return nil
}

// read reads keys from the masters or from the replicas, whichever db are.
func (s *Store) read(ctx context.Context, db goredis.UniversalClient, keys []string, dst [][]byte) error {
	if s.o.Mode == Cluster {
		return s.getEach(ctx, db, keys, dst)
	}
	return s.getMany(ctx, db, keys, dst)
}

// getMany reads keys that are all on one server.
func (s *Store) getMany(ctx context.Context, db goredis.UniversalClient, keys []string, dst [][]byte) error {
	if client, ok := db.(*goredis.Client); ok && db == s.db {
		err := s.readers.get(client).mget(ctx, keys, dst)
		if err == nil || errors.Is(err, errStuck) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	pipe := db.Pipeline()
	var cmds []*goredis.SliceCmd
	for part := range slices.Chunk(keys, getKeys) {
		cmds = append(cmds, pipe.MGet(ctx, part...))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for i, cmd := range cmds {
		at := i * getKeys
		if err := takeAll(cmd, dst[at:min(at+getKeys, len(dst))]); err != nil {
			return err
		}
	}
	return nil
}

func takeAll(cmd *goredis.SliceCmd, dst [][]byte) error {
	values, err := cmd.Result()
	if err != nil {
		return err
	}
	if len(values) != len(dst) {
		return fmt.Errorf("%d records for %d keys", len(values), len(dst))
	}
	for i, v := range values {
		switch v := v.(type) {
		case nil:
			dst[i] = nil
		case string:
			dst[i] = own(v)
		default:
			return fmt.Errorf("a %T for a record", v)
		}
	}
	return nil
}

// own is the memory of a string that the client has made from a reply and that
// nobody else will see: what a caller of Get may keep and change.
func own(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// getEach reads keys of a Cluster: a pipeline for each shard, all at the same time.
func (s *Store) getEach(ctx context.Context, db goredis.UniversalClient, keys []string, dst [][]byte) error {
	var pending []int
	if cluster, ok := db.(*goredis.ClusterClient); ok && db == s.db {
		var err error
		if pending, err = s.getShards(ctx, cluster, keys, dst); err != nil || len(pending) == 0 {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	} else {
		for i := range keys {
			pending = append(pending, i)
		}
	}
	cmds := make([]*goredis.StringCmd, len(keys))
	for attempt := 0; ; attempt++ {
		pipe := db.Pipeline()
		for _, i := range pending {
			cmds[i] = pipe.Get(ctx, keys[i])
		}
		_, _ = pipe.Exec(ctx) // the errors are those of its commands
		again := pending[:0]
		var last error
		for _, i := range pending {
			v, err := cmds[i].Result()
			switch {
			case err == nil:
				dst[i] = own(v)
			case errors.Is(err, goredis.Nil):
				dst[i] = nil
			case passing(err):
				again, last = append(again, i), err
			case goredis.HasErrorPrefix(err, "WRONGTYPE"):
				dst[i] = []byte{0} // no string is under the key, and no kind of record is 0
			default:
				s.reload(ctx, err)
				return err
			}
		}
		if pending = again; len(pending) == 0 {
			return nil
		}
		if err := s.pause(ctx, attempt, s.retries(last), last); err != nil {
			return err
		}
	}
}

// reload has the client of a Cluster ask who has which slots where a shard did not answer: another may have taken them over, which
// it would else find out within options.go's clusterReload.
func (s *Store) reload(ctx context.Context, err error) {
	cluster, ok := s.db.(*goredis.ClusterClient)
	if _, answered := errors.AsType[goredis.Error](err); ok && err != nil && !answered {
		cluster.ReloadState(ctx)
	}
}

// Resumes implements online.Store.
func (s *Store) Resumes(ctx context.Context, view string, generation int) ([]online.Resume, error) {
	const doing = "read resume points"
	if err := s.use(ctx, doing); err != nil {
		return nil, err
	}
	defer s.open.RUnlock()
	inputs, err := s.db.HGetAll(ctx, s.resumesKey(view, generation)).Result()
	if err != nil {
		return nil, s.failed(doing, err)
	}
	points := make([]online.Resume, 0, len(inputs))
	for input, position := range inputs {
		points = append(points, online.Resume{View: view, Generation: generation, Input: input, Position: position})
	}
	return points, nil
}

// SetResumes implements online.Store.
func (s *Store) SetResumes(ctx context.Context, points []online.Resume) error {
	const doing = "store resume points"
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	if len(points) == 0 {
		return nil
	}
	byKey := map[string][]any{}
	for _, p := range points {
		key := s.resumesKey(p.View, p.Generation)
		byKey[key] = append(byKey[key], p.Input, p.Position)
	}
	pipe := s.db.Pipeline()
	for key, fields := range byKey {
		pipe.HSet(ctx, key, fields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return s.failed(doing, err)
	}
	return nil
}

// Live implements online.Store.
func (s *Store) Live(ctx context.Context) (map[string]int, error) {
	const doing = "read live generations"
	if err := s.use(ctx, doing); err != nil {
		return nil, err
	}
	defer s.open.RUnlock()
	pipe := s.db.Pipeline()
	views, format := pipe.HGetAll(ctx, s.liveKey()), pipe.HGet(ctx, s.generationsKey(), formatField)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
		return nil, s.failed(doing, err)
	}
	if v, err := format.Result(); err == nil {
		if err := s.checkFormat(v); err != nil {
			return nil, err
		}
	}
	live := make(map[string]int, len(views.Val()))
	for view, text := range views.Val() {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > math.MaxInt32 {
			return nil, s.failed(doing, fmt.Errorf("%s: view %s: %q is not a generation", s.liveKey(), view, text))
		}
		live[view] = n
	}
	return live, nil
}

// SetLive implements online.Store.
func (s *Store) SetLive(ctx context.Context, view string, generation int) error {
	const doing = "store a live generation"
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	if err := s.db.HSet(ctx, s.liveKey(), view, generation).Err(); err != nil {
		return s.failed(doing, err)
	}
	return nil
}

// Ping implements online.Store. Of a Cluster, every master must answer.
func (s *Store) Ping(ctx context.Context) error {
	const doing = "ping"
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	err := s.eachMaster(ctx, func(ctx context.Context, c *goredis.Client) error { return c.Ping(ctx).Err() })
	if err != nil {
		return s.failed(doing, err)
	}
	return nil
}

var _ online.Server = (*Store)(nil)

// Server implements online.Server: the run IDs of the servers that take writes.
func (s *Store) Server(ctx context.Context) (string, error) {
	const doing = "ask for the server's run ID"
	if err := s.use(ctx, doing); err != nil {
		return "", err
	}
	defer s.open.RUnlock()
	var mu sync.Mutex
	var ids []string
	err := s.eachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
		info, err := c.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		_, id, found := strings.Cut(info, "run_id:")
		if !found {
			return errors.New("INFO tells no run_id")
		}
		id, _, _ = strings.Cut(id, "\r\n")
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return "", s.failed(doing, err)
	}
	slices.Sort(ids)
	return strings.Join(ids, "+"), nil
}

// eachMaster calls fn for every server that takes writes, at the same time in a Cluster.
func (s *Store) eachMaster(ctx context.Context, fn func(context.Context, *goredis.Client) error) error {
	switch db := s.db.(type) {
	case *goredis.ClusterClient:
		return db.ForEachMaster(ctx, fn)
	case *goredis.Client:
		return fn(ctx, db)
	}
	panic(fmt.Sprintf("redis: a client of type %T", s.db))
}

// Close implements online.Store. It waits for what is under way.
func (s *Store) Close() error {
	s.open.Lock()
	defer s.open.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.readers.close()
	err := s.db.Close()
	if s.replicas != nil {
		err = errors.Join(err, s.replicas.Close())
	}
	s.reads.Wait()
	if err != nil {
		return fmt.Errorf("close online store at %s: %w", s.addr, err)
	}
	return nil
}
