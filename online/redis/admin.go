package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// scanCount is how many keys one step of a scan looks at: it keeps the server
// for a fraction of a millisecond.
const scanCount = 1000

// scan calls fn with the keys of a generation's records, a step at a time, for one
// server after the other or, in a Cluster, for several at the same time. A key may come
// more than once.
func (s *Store) scan(ctx context.Context, view string, generation int, fn func(*goredis.Client, []string) error) error {
	pattern := s.recordPattern(s.generationID(view, generation))
	return s.eachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
		for cursor := uint64(0); ; {
			keys, next, err := c.Scan(ctx, cursor, pattern, scanCount).Result()
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				if err := fn(c, keys); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return ctx.Err()
			}
		}
	})
}

// Drop implements online.Store. Keys are found by SCAN and freed in the
// background (UNLINK); a Drop that was cut short is finished by another.
func (s *Store) Drop(ctx context.Context, view string, generation int) error {
	const doing = "drop a generation"
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	// The resume points first: without them the input is read again from its
	// beginning, whatever becomes of the records.
	if err := s.db.Del(ctx, s.resumesKey(view, generation)).Err(); err != nil {
		return s.failed(doing, err)
	}
	for passes := 0; ; passes++ {
		var mu sync.Mutex
		found := 0
		err := s.scan(ctx, view, generation, func(_ *goredis.Client, keys []string) error {
			pipe := s.db.Pipeline() // and not the scanned server: a slot may be moving
			for _, k := range keys {
				pipe.Unlink(ctx, k)
			}
			_, err := pipe.Exec(ctx)
			mu.Lock()
			defer mu.Unlock()
			found += len(keys)
			return err
		})
		if err != nil {
			return s.failed(doing, err)
		}
		// The scan of one server finds every key that is there all the while; one that
		// moves between shards may slip past.
		if found == 0 || s.o.Mode != Cluster || passes == 3 {
			break
		}
	}
	s.known.Delete(generationName(view, generation))
	if err := s.db.HDel(ctx, s.generationsKey(), s.generationID(view, generation)).Err(); err != nil {
		return s.failed(doing, err)
	}
	return nil
}

// Usage implements online.Store. It counts by a scan of all keys; the bytes
// are those of a few records, times their number.
func (s *Store) Usage(ctx context.Context, view string, generation int) (records, bytes int64, err error) {
	const doing = "count records"
	const samples = 20 // on each server
	if err := s.use(ctx, doing); err != nil {
		return 0, 0, err
	}
	defer s.open.RUnlock()
	var mu sync.Mutex
	sampled := map[*goredis.Client]int{}
	n, sum := int64(0), int64(0)
	err = s.scan(ctx, view, generation, func(c *goredis.Client, keys []string) error {
		mu.Lock()
		defer mu.Unlock()
		records += int64(len(keys))
		take := min(len(keys), samples-sampled[c])
		sampled[c] += take
		pipe := c.Pipeline()
		for _, k := range keys[:take] {
			pipe.MemoryUsage(ctx, k)
		}
		cmds, err := pipe.Exec(ctx)
		if err != nil && !errors.Is(err, goredis.Nil) {
			return err
		}
		for _, cmd := range cmds {
			if size := cmd.(*goredis.IntCmd).Val(); size > 0 { // else it was deleted meanwhile
				n, sum = n+1, sum+size
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, s.failed(doing, err)
	}
	if n > 0 {
		bytes = sum * records / n
	}
	return records, bytes, nil
}

// Check asks the servers whether they are set up to keep records, and returns
// what somebody should know. An error means that they could not be asked.
func (s *Store) Check(ctx context.Context) (warnings []string, err error) {
	const doing = "check the servers"
	if err := s.use(ctx, doing); err != nil {
		return nil, err
	}
	defer s.open.RUnlock()
	var mu sync.Mutex
	err = s.eachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
		info, err := c.Info(ctx).Result()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		warnings = append(warnings, check(c.Options().Addr, parseInfo(info))...)
		return nil
	})
	if err != nil {
		return nil, s.failed(doing, err)
	}
	slices.Sort(warnings)
	if err := s.pingReplicas(ctx); err != nil {
		if hint := hintOf(err); hint != "" {
			err = fmt.Errorf("%s: %w", hint, err)
		}
		warnings = append(warnings, fmt.Sprintf("%s: replicas cannot be read, so that hedge does nothing: %v", s.addr, err))
	}
	return warnings, nil
}

// pingReplicas tries the connections of hedged reads, if there are any.
func (s *Store) pingReplicas(ctx context.Context) error {
	switch db := s.replicas.(type) {
	case *goredis.ClusterClient:
		return db.ForEachSlave(ctx, func(ctx context.Context, c *goredis.Client) error { return c.Ping(ctx).Err() })
	case *goredis.Client:
		return db.Ping(ctx).Err()
	}
	return nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// check looks through what a server says of itself.
func check(addr string, info map[string]string) (warnings []string) {
	switch p := info["maxmemory_policy"]; {
	case strings.HasPrefix(p, "allkeys-"):
		warnings = append(warnings, fmt.Sprintf("redis %s: maxmemory_policy is %s: it drops records when memory is short, and lookups answer NOT_FOUND for them; set it to noeviction", addr, p))
	case strings.HasPrefix(p, "volatile-"):
		// The records of windowed views have an expiry; others are spared.
		warnings = append(warnings, fmt.Sprintf("redis %s: maxmemory_policy is %s: it drops records of windowed views when memory is short, and lookups answer NOT_FOUND for them; set it to noeviction", addr, p))
	}
	if v := info["redis_version"]; v != "" {
		if major, err := strconv.Atoi(strings.SplitN(v, ".", 2)[0]); err == nil && major < 6 {
			warnings = append(warnings, fmt.Sprintf("redis %s: version %s is older than 6, which nobody has tried", addr, v))
		}
	}
	if info["loading"] == "1" {
		warnings = append(warnings, fmt.Sprintf("redis %s: it is loading its data into memory", addr))
	}
	return warnings
}
