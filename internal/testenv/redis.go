//go:build unix

package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisEnv names the variable that makes [Redis] use a server that runs already, by its address.
const RedisEnv = "FOREBAY_TEST_REDIS"

// RedisNode is one redis-server on 127.0.0.1: a master, a replica or a Sentinel.
type RedisNode struct {
	Addr string

	dir  string
	args []string
	cmd  *exec.Cmd
}

// redisServers are the servers that one reaper ends.
type redisServers struct {
	dir     string
	nodes   []*RedisNode
	reaper  *reaper
	stopped sync.Once
}

var sharedRedis struct {
	once    sync.Once
	node    *RedisNode
	servers *redisServers // kept, for the end of its reaper's pipe is closed when nobody does
	err     error
}

// Redis is a server without persistence that every test of the process
// shares, or the one that FOREBAY_TEST_REDIS names. Tests must not share projects,
// nor kill it. Take goleak.IgnoreCurrent after it.
func Redis(t testing.TB) *RedisNode {
	t.Helper()
	sharedRedis.once.Do(func() {
		if addr := os.Getenv(RedisEnv); addr != "" {
			sharedRedis.node = &RedisNode{Addr: addr}
			return
		}
		if sharedRedis.servers, sharedRedis.err = startRedis(1); sharedRedis.err == nil {
			sharedRedis.node = sharedRedis.servers.nodes[0]
		}
	})
	redisUp(t, sharedRedis.err)
	return sharedRedis.node
}

// RedisServer is a server of the test's own, which may be killed and restarted.
// It keeps no data but in memory, unless the arguments, as of its command line, say otherwise.
func RedisServer(t testing.TB, args ...string) *RedisNode {
	t.Helper()
	return ownRedis(t, 1, args...).nodes[0]
}

func ownRedis(t testing.TB, n int, args ...string) *redisServers {
	t.Helper()
	s, err := startRedis(n, args...)
	redisUp(t, err)
	t.Cleanup(s.stop)
	return s
}

// redisUp ends or skips the test if the servers could not be started.
func redisUp(t testing.TB, err error) {
	t.Helper()
	if _, lacks := exec.LookPath("redis-server"); lacks != nil && err != nil {
		missing(t, "redis-server", "apt-get install redis-server")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startRedis starts n servers.
func startRedis(n int, args ...string) (*redisServers, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "forebay-redis-")
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	s := &redisServers{dir: dir}
	if s.reaper, err = startReaper(dir); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("redis: %w", err)
	}
	for range n {
		if _, err := s.add(args...); err != nil {
			s.stop()
			return nil, err
		}
	}
	return s, nil
}

// add starts one more server.
func (s *redisServers) add(args ...string) (*RedisNode, error) {
	// A port that was free may be taken by somebody else before the server has it.
	for attempt := 0; ; attempt++ {
		ports, err := freePorts(2)
		if err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		n := &RedisNode{
			Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])),
			dir:  filepath.Join(s.dir, strconv.Itoa(ports[0])),
		}
		if err := os.Mkdir(n.dir, 0o700); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		n.args = append([]string{"--port", strconv.Itoa(ports[0]), "--bind", "127.0.0.1", "--dir", n.dir, "--save", "", "--appendonly", "no",
			"--cluster-port", strconv.Itoa(ports[1])}, args...)
		if len(args) > 0 && !strings.HasPrefix(args[0], "--") { // a configuration file, which comes first
			n.args = append([]string{args[0]}, append(n.args[:len(n.args)-len(args)], args[1:]...)...)
		}
		s.nodes = append(s.nodes, n)
		if err = n.start(); err == nil {
			return n, nil
		}
		if attempt == 2 {
			return nil, err
		}
	}
}

func (n *RedisNode) start() error {
	logs, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer logs.Close()
	cmd := exec.Command("redis-server", n.args...)
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("redis: start: %w", err)
	}
	n.cmd = cmd
	if err := os.WriteFile(filepath.Join(n.dir, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	err = until(20*time.Second, func(ctx context.Context) error {
		conn, err := net.Dial("tcp", n.Addr) // first without the client, which logs what it cannot reach
		if err != nil {
			return err
		}
		_ = conn.Close()
		c := n.client()
		defer c.Close()
		err = c.Ping(ctx).Err()
		if redis.IsAuthError(err) {
			return nil // it answers, to those who know its password
		}
		return err
	})
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(n.dir, "log"))
		return fmt.Errorf("redis: the server on %s is not up: %w; the end of its log:\n%s", n.Addr, err, log[max(0, len(log)-2000):])
	}
	return nil
}

// until tries again until there is no error.
func until(limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func (n *RedisNode) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: n.Addr, Protocol: 2, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, PoolSize: 2, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Client is a client of the server that is closed with the test.
func (n *RedisNode) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := n.client()
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Kill ends the server, as kill -9 does.
func (n *RedisNode) Kill(t testing.TB) {
	t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatalf("redis: kill %s: %v", n.Addr, err)
	}
	_ = n.cmd.Wait() // "signal: killed"
	_ = os.Remove(filepath.Join(n.dir, "pid"))
}

// Restart starts a killed server again, on its old port.
func (n *RedisNode) Restart(t testing.TB) {
	t.Helper()
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
}

// Pause stops the server's process: connections stay open and nothing answers.
// It goes on when resume is called, or the test ends.
func (n *RedisNode) Pause(t testing.TB) (resume func()) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("redis: pause %s: %v", n.Addr, err)
	}
	resume = sync.OnceFunc(func() { _ = n.cmd.Process.Signal(syscall.SIGCONT) })
	t.Cleanup(resume)
	return resume
}

func (s *redisServers) stop() {
	s.stopped.Do(func() {
		_ = s.reaper.pipe.Close()
		for _, n := range s.nodes {
			if n.cmd != nil {
				_ = n.cmd.Wait() // "signal: killed"
			}
		}
		_ = s.reaper.cmd.Wait()
	})
}

// RedisSentinels is a master, a replica of it, and three Sentinels that watch them.
type RedisSentinels struct {
	MasterName string
	Master     *RedisNode // at the start
	Replica    *RedisNode
	Sentinels  []*RedisNode
}

// RedisSentinel starts a master of the test's own with its replica and
// Sentinels; they notice within half a second that a master is gone.
func RedisSentinel(t testing.TB) *RedisSentinels {
	t.Helper()
	s := ownRedis(t, 1)
	master := s.nodes[0]
	host, port, _ := net.SplitHostPort(master.Addr)
	replica, err := s.add("--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	redisUp(t, err)
	r := &RedisSentinels{MasterName: "forebay", Master: master, Replica: replica}
	for i := range 3 {
		conf := filepath.Join(s.dir, fmt.Sprintf("sentinel-%d.conf", i)) // Sentinels write to it
		text := fmt.Sprintf("sentinel monitor forebay %s %s 2\nsentinel down-after-milliseconds forebay 500\nsentinel failover-timeout forebay 3000\n", host, port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := s.add(conf, "--sentinel")
		redisUp(t, err)
		r.Sentinels = append(r.Sentinels, n)
	}
	redisUp(t, until(30*time.Second, func(ctx context.Context) error {
		for _, n := range r.Sentinels {
			c := n.client()
			info, err := c.Info(ctx, "sentinel").Result()
			_ = c.Close()
			if err != nil {
				return err
			}
			if !strings.Contains(info, "status=ok") || !strings.Contains(info, "slaves=1,sentinels=3") {
				return fmt.Errorf("redis: the Sentinel on %s does not know the others yet: %s", n.Addr, info)
			}
		}
		c := replica.client()
		defer c.Close()
		info, err := c.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("redis: the replica is not connected yet: %s", info)
		}
		return err
	}))
	return r
}

// Patient has the Sentinels take a master for gone after a minute only, in tests that want no failover: on a machine
// that is busy one may be silent for half a second, and its replica lacks what it has just acknowledged.
func (r *RedisSentinels) Patient(t testing.TB) {
	t.Helper()
	for _, n := range r.Sentinels {
		c := n.client()
		err := c.Do(t.Context(), "SENTINEL", "SET", r.MasterName, "down-after-milliseconds", 60_000).Err()
		redisUp(t, err)
		_ = c.Close()
	}
}

// Addrs are the addresses of the Sentinels.
func (r *RedisSentinels) Addrs() []string { return addrs(r.Sentinels) }

func addrs(nodes []*RedisNode) (as []string) {
	for _, n := range nodes {
		as = append(as, n.Addr)
	}
	return as
}

// RedisShards is a Redis Cluster of masters without replicas.
type RedisShards struct {
	Nodes []*RedisNode
	IDs   []string // of the nodes, as CLUSTER commands take them
}

// redisSlots is the number of slots of every Redis Cluster.
const redisSlots = 16384

// RedisCluster starts a cluster of three masters of the test's own, with a third of the slots each.
func RedisCluster(t testing.TB) *RedisShards {
	t.Helper()
	const masters = 3
	s := ownRedis(t, masters, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
	r := &RedisShards{Nodes: s.nodes}
	for i, n := range r.Nodes {
		c := n.client()
		defer c.Close()
		redisUp(t, c.ClusterAddSlotsRange(t.Context(), i*redisSlots/masters, (i+1)*redisSlots/masters-1).Err())
		// Epochs of their own, so that the nodes agree on them at once.
		redisUp(t, c.Do(t.Context(), "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		id, err := c.ClusterMyID(t.Context()).Result()
		redisUp(t, err)
		r.IDs = append(r.IDs, id)
		for _, other := range r.Nodes[:i] {
			host, port, _ := net.SplitHostPort(other.Addr)
			bus := other.args[indexOf(other.args, "--cluster-port")+1]
			redisUp(t, c.Do(t.Context(), "CLUSTER", "MEET", host, port, bus).Err())
		}
	}
	redisUp(t, until(30*time.Second, func(ctx context.Context) error {
		for _, n := range r.Nodes {
			c := n.client()
			info, err := c.ClusterInfo(ctx).Result()
			slots, slotsErr := c.ClusterSlots(ctx).Result()
			_ = c.Close()
			if err != nil || slotsErr != nil {
				return fmt.Errorf("redis: %w", err)
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters)) || len(slots) != masters {
				return fmt.Errorf("redis: the cluster is not up on %s: %s", n.Addr, info)
			}
		}
		return nil
	}))
	return r
}

func indexOf(args []string, name string) int {
	for i, a := range args {
		if a == name {
			return i
		}
	}
	return -1
}

// Addrs are the addresses of the nodes.
func (r *RedisShards) Addrs() []string { return addrs(r.Nodes) }

// MoveSlot moves a slot with its keys to another node, as redis-cli --cluster
// reshard does; during is called while the keys are on both.
func (r *RedisShards) MoveSlot(t testing.TB, slot, to int, during func()) {
	t.Helper()
	ctx := t.Context()
	from := -1
	var clients []*redis.Client
	for _, n := range r.Nodes {
		clients = append(clients, n.Client(t))
	}
	slots, err := clients[0].ClusterSlots(ctx).Result()
	redisUp(t, err)
	for _, s := range slots {
		for i, id := range r.IDs {
			if s.Start <= slot && slot <= s.End && s.Nodes[0].ID == id {
				from = i
			}
		}
	}
	if from < 0 || from == to {
		t.Fatalf("redis: slot %d cannot move from node %d to %d", slot, from, to)
	}
	redisUp(t, clients[to].Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", r.IDs[from]).Err())
	redisUp(t, clients[from].Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", r.IDs[to]).Err())
	host, port, _ := net.SplitHostPort(r.Nodes[to].Addr)
	for half := true; ; half = false {
		keys, err := clients[from].ClusterGetKeysInSlot(ctx, slot, 1000).Result()
		redisUp(t, err)
		if half {
			keys = keys[:len(keys)/2]
		} else if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			redisUp(t, clients[from].Do(ctx, "MIGRATE", host, port, k, 0, 5000).Err())
		}
		if half {
			during()
		}
	}
	for _, i := range []int{to, from, 3 - to - from} {
		redisUp(t, clients[i].Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", r.IDs[to]).Err())
	}
}
