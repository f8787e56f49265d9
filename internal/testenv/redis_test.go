//go:build unix

package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestRedisIsShared(t *testing.T) {
	if a, b := Redis(t), Redis(t); a != b {
		t.Errorf("two servers: %s and %s", a.Addr, b.Addr)
	}
	if err := Redis(t).Client(t).Set(t.Context(), t.Name(), 1, time.Minute).Err(); err != nil {
		t.Error(err)
	}
}

func TestRedisServerIsKilledAndRestarted(t *testing.T) {
	n := RedisServer(t)
	c := n.Client(t)
	n.Kill(t)
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a killed server answers")
	}
	n.Restart(t)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	resume := n.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.Client(t).Ping(ctx).Err(); err == nil {
		t.Error("a paused server answers")
	}
	resume()
	if err := n.Client(t).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestRedisSentinelKnowsTheMaster(t *testing.T) {
	r := RedisSentinel(t)
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: r.MasterName, SentinelAddrs: r.Addrs()})
	defer c.Close()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
}

func TestRedisClusterMovesASlot(t *testing.T) {
	r := RedisCluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: r.Addrs()})
	defer c.Close()
	for _, k := range []string{"a", "b", "{c}1", "{c}2"} { // c: slot 7365, of the second node
		if err := c.Set(t.Context(), k, k, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	called := false
	r.MoveSlot(t, 7365, 0, func() { called = true })
	if v, err := c.Get(t.Context(), "{c}2").Result(); err != nil || v != "{c}2" || !called {
		t.Errorf("after the move: %q, %v", v, err)
	}
}
