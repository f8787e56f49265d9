package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Mode is how the servers belong together.
type Mode string

// The modes.
const (
	Single   Mode = "single"   // one server; Addrs is its address
	Sentinel Mode = "sentinel" // Addrs are Sentinels, which know the master MasterName
	Cluster  Mode = "cluster"  // Addrs are some nodes of a Redis Cluster
)

// Options says how to reach Redis. Project and Addrs are required; the zero
// value of everything else is its default.
type Options struct {
	// Project is the project whose records are kept; it begins their keys.
	// Letters, digits, "_", "-" and ".".
	Project string
	// Addrs are host:port.
	Addrs []string
	// Mode is how they belong together. Default Single.
	Mode Mode
	// Username and Password are those of an ACL user, or a password alone.
	Username string
	Password string
	// SentinelUsername and SentinelPassword are those for the Sentinels themselves.
	SentinelUsername string
	SentinelPassword string
	// MasterName is the master's name among the Sentinels. Required with Sentinel, else empty.
	MasterName string
	// DB is the database's number. Default 0, which is all that a Cluster has.
	DB int
	// TLS, if set, is used for every connection.
	TLS *tls.Config
	// PoolSize is the greatest number of connections to each server. Default
	// 10 for each CPU, 20 at least.
	PoolSize int
	// DialTimeout bounds the making of a connection. Default 2s.
	DialTimeout time.Duration
	// Timeout bounds one round trip where the context has no earlier deadline. Default 3s.
	Timeout time.Duration
	// Hedge, if set, is after how long without an answer a Get is asked of a replica too, or at
	// once where the master fails; the first answer counts. A replica may lag behind, so that a Get may give
	// an older record than the one before. It needs Sentinel or Cluster. Default 0: masters alone.
	Hedge time.Duration
	// Retries is how often a call is tried again that met a broken connection, a
	// server that loads its data, or a failover. Every call can be repeated
	// without harm. Default 3; -1 for none.
	Retries int
	// MinBackoff and MaxBackoff bound the pause before a retry, which grows and is
	// jittered. Defaults 10ms and 250ms.
	MinBackoff time.Duration
	MaxBackoff time.Duration
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	if o.Mode == "" {
		o.Mode = Single
	}
	if o.PoolSize == 0 {
		o.PoolSize = max(20, 10*runtime.GOMAXPROCS(0))
	}
	if o.Retries == 0 {
		o.Retries = 3
	}
	set(&o.DialTimeout, 2*time.Second)
	set(&o.Timeout, 3*time.Second)
	set(&o.MinBackoff, 10*time.Millisecond)
	set(&o.MaxBackoff, 250*time.Millisecond)
	return o
}

var projectName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// Validate reports every option that cannot be used.
func (o Options) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf(field+": "+format, args...))
	}
	if !projectName.MatchString(o.Project) {
		bad("project", `%q: want letters, digits, "_", "-" and "."`, o.Project)
	}
	if len(o.Addrs) == 0 {
		bad("addrs", "missing; they are the servers' addresses, host:port")
	}
	for _, a := range o.Addrs {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			bad("addrs", "%q is not host:port", a)
		}
	}
	if modes := []Mode{"", Single, Sentinel, Cluster}; !slices.Contains(modes, o.Mode) {
		bad("mode", "%q: want single, sentinel or cluster", o.Mode)
	}
	if (o.Mode == "" || o.Mode == Single) && len(o.Addrs) > 1 {
		bad("addrs", "%d addresses of a single server; for more than one set mode: sentinel or cluster", len(o.Addrs))
	}
	if (o.Mode == Sentinel) != (o.MasterName != "") {
		bad("master_name", "%q with mode %q: it is the master's name among the Sentinels, and goes with mode sentinel alone", o.MasterName, o.Mode)
	}
	if o.Hedge > 0 && (o.Mode == "" || o.Mode == Single) {
		bad("hedge", "%v with mode single, which knows no replicas: set mode: sentinel or cluster", o.Hedge)
	}
	if o.DB < 0 || (o.Mode == Cluster && o.DB != 0) {
		bad("db", "%d: want a number from 0; a Cluster has 0 alone", o.DB)
	}
	if o.Username != "" && o.Password == "" {
		bad("password", "missing, for user %q", o.Username)
	}
	if o.PoolSize < 0 || o.Retries < -1 {
		bad("pool_size and retries", "%d and %d: want numbers from 0", o.PoolSize, o.Retries)
	}
	for _, d := range []time.Duration{o.DialTimeout, o.Timeout, o.MinBackoff, o.MaxBackoff, o.Hedge} {
		if d < 0 {
			bad("timeouts", "%v is negative", d)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("redis online store: %w", err)
	}
	return nil
}

// address is what messages call the servers.
func (o Options) address() string {
	a := "redis " + strings.Join(o.Addrs, ",")
	if o.Mode == Sentinel {
		a += " (sentinel, master " + o.MasterName + ")"
	}
	return a
}

// clusterReload is how often a Cluster is asked who has which slots, though nothing has redirected us.
const clusterReload = 10 * time.Second

// client makes the client; it connects when it is first used. One of replicas only reads.
func (o Options) client(replicas bool) goredis.UniversalClient {
	// The replies that we use are the same in both protocols, and the older one is cheaper to read.
	const protocol = 2
	// These notices exist in Redis' own cloud alone.
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch o.Mode {
	case Sentinel:
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: o.MasterName, ReplicaOnly: replicas, SentinelAddrs: o.Addrs, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
			Protocol: protocol, Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLS, PoolSize: o.PoolSize,
			DialTimeout: o.DialTimeout, DialerRetries: 1, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, ContextTimeoutEnabled: true,
			MaxRetries: o.Retries, MinRetryBackoff: o.MinBackoff, MaxRetryBackoff: o.MaxBackoff, DisableIdentity: true,
		})
	case Cluster:
		return goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: o.Addrs, ReadOnly: replicas,
			Protocol: protocol, Username: o.Username, Password: o.Password, TLSConfig: o.TLS, PoolSize: o.PoolSize,
			DialTimeout: o.DialTimeout, DialerRetries: 1, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, ContextTimeoutEnabled: true,
			// Redirections of a slot that moves are counted as retries are, and are harmless.
			MaxRedirects: max(o.Retries, 0) + 5, ClusterStateReloadInterval: clusterReload, MinRetryBackoff: o.MinBackoff, MaxRetryBackoff: o.MaxBackoff, DisableIdentity: true, MaintNotificationsConfig: quiet,
			// Every command of ours has keys of one slot, and is sent there.
			DisableRoutingPolicies: true,
		})
	}
	return goredis.NewClient(&goredis.Options{
		Addr:     o.Addrs[0],
		Protocol: protocol, Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLS, PoolSize: o.PoolSize,
		DialTimeout: o.DialTimeout, DialerRetries: 1, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, ContextTimeoutEnabled: true,
		MaxRetries: o.Retries, MinRetryBackoff: o.MinBackoff, MaxRetryBackoff: o.MaxBackoff, DisableIdentity: true, MaintNotificationsConfig: quiet,
	})
}
