package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/forebay/forebay/online"
)

// readers are those of the servers that are masters, each under its client.
type readers struct {
	o  *Options
	mu sync.RWMutex
	of map[*goredis.Client]*reader
}

// get finds the reader of a server, or makes it; then those go whose servers nobody asks any more.
func (rs *readers) get(c *goredis.Client) *reader {
	rs.mu.RLock()
	r := rs.of[c]
	rs.mu.RUnlock()
	if r != nil {
		return r
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.of[c]; r != nil {
		return r
	}
	gone := time.Now().Add(-readerIdle).UnixNano()
	for c, r := range rs.of {
		if r.used.Load() < gone {
			r.close()
			delete(rs.of, c)
		}
	}
	if rs.of == nil {
		rs.of = map[*goredis.Client]*reader{}
	}
	r = newReader(c, rs.o)
	rs.of[c] = r
	return r
}

func (rs *readers) close() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.of {
		r.close()
	}
}

// shardPart is what is read from one master of a Cluster.
type shardPart struct {
	client *goredis.Client
	keys   []int // by their place
	left   []int // of them, those that were not read
	err    error // errStuck
}

// getShards reads keys from the masters that have their slots, at the same time, so that a slow shard keeps
// no other's connections, and returns the places of those that the client is to be asked for. The error is errStuck.
func (s *Store) getShards(ctx context.Context, db *goredis.ClusterClient, keys []string, dst [][]byte) (left []int, err error) {
	var parts []*shardPart
	for i, key := range keys {
		master, err := db.MasterForKey(ctx, key)
		if err != nil {
			left = append(left, i)
			continue
		}
		at := 0
		for at < len(parts) && parts[at].client != master {
			at++
		}
		if at == len(parts) {
			parts = append(parts, &shardPart{client: master})
		}
		parts[at].keys = append(parts[at].keys, i)
	}
	var others sync.WaitGroup
	for i, p := range parts {
		if i == len(parts)-1 {
			s.getShard(ctx, p, keys, dst)
			break
		}
		others.Go(func() { s.getShard(ctx, p, keys, dst) })
	}
	others.Wait()
	for _, p := range parts {
		left = append(left, p.left...)
		if p.err != nil {
			err = fmt.Errorf("shard at %s: %w", p.client.Options().Addr, p.err)
		}
	}
	return left, err
}

func (s *Store) getShard(ctx context.Context, p *shardPart, keys []string, dst [][]byte) {
	r := s.readers.get(p.client)
	c, err := r.take(ctx)
	if errors.Is(err, errStuck) {
		p.err = err
		return
	}
	if err != nil {
		p.left = p.keys
		return
	}
	for _, i := range p.keys {
		c.command(2)
		c.word("GET")
		c.word(keys[i])
	}
	err = c.send()
	slab := online.Slab{Left: len(p.keys)}
	for n := 0; n < len(p.keys) && err == nil; n++ {
		i := p.keys[n]
		if err = c.record(&dst[i], &slab); errors.Is(err, errReply) {
			p.left, err = append(p.left, i), nil
		}
	}
	if err != nil {
		r.drop(c, err)
		p.left = p.keys
		return
	}
	r.give(c)
}
