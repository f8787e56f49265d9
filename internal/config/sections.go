package config

import (
	"fmt"
	"slices"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/spec"
)

// The sections of an environment: registry, offline, online and stream.

// missing reports a section that only the local environment may leave out.
func (l *loader) missing(section, what string) {
	l.mistake(section, "missing: %s (only the environment %s has defaults)", what, Local)
}

func (l *loader) registry() URL {
	raw := l.declared.Registry
	if raw == "" {
		if !l.local {
			l.missing("registry", "say where the revisions are, such as s3://bucket/registry")
			return ""
		}
		raw = "file://./.forebay/registry"
	}
	return l.url("registry", raw, "file", "s3", "gs", "azblob", "mem")
}

func (l *loader) offline() (o Offline) {
	d := l.declared.Offline
	if d == (spec.Offline{}) {
		if !l.local {
			l.missing("offline", `say where history is, such as {store: parquet, url: "s3://bucket/offline"}`)
			return o
		}
		d.Store, d.URL = Parquet, "file://./.forebay/offline"
	}
	o.Store = l.choice("offline.store", d.Store, Parquet, ClickHouse)
	switch o.Store {
	case Parquet:
		o.URL = l.url("offline.url", d.URL, "file", "s3", "gs", "azblob")
	case ClickHouse:
		o.URL = l.url("offline.url", d.URL, "clickhouse", "tcp", "http", "https")
	}
	return o
}

func (l *loader) online() (o Online) {
	d := l.declared.Online
	if !l.given(d) {
		if !l.local {
			l.missing("online", `say where values are served from, such as {store: redis, addrs: ["redis:6379"]}`)
			return o
		}
		d.Store, d.Path = Embedded, "./.forebay/online"
	}
	o.Store = l.choice("online.store", d.Store, Redis, Embedded)
	switch o.Store {
	case Embedded:
		o.Path = l.path("online.path", d.Path)
		l.unused("online", "with store embedded", map[string]bool{
			"addrs": len(d.Addrs) > 0, "mode": d.Mode != "", "username": d.Username != "", "password": d.Password != "",
			"tls": d.TLS.Enabled, "master_name": d.MasterName != "", "db": d.DB != 0,
			"cache": l.declared.Given("online.cache"), "hedge": d.Hedge != "", "pool_size": d.PoolSize != "",
		}, "addrs", "mode", "username", "password", "tls", "master_name", "db", "cache", "hedge", "pool_size")
	case Redis:
		l.unused("online", "with store redis", map[string]bool{"path": d.Path != ""}, "path")
		l.redis(&o, d)
	}
	return o
}

// given reports whether anything of the online section is written.
func (l *loader) given(d spec.Online) bool {
	return d.Store != "" || d.Path != "" || len(d.Addrs) > 0 || d.Mode != "" || d.MasterName != "" || d.DB != 0 || d.Hedge != "" || d.PoolSize != "" || l.declared.Given("online.cache") || d.Username != "" || d.Password != "" || d.TLS != (spec.TLS{})
}

// maxPoolSize is the greatest number of connections to one Redis that a process may use.
const maxPoolSize = 10_000

func (l *loader) redis(o *Online, d spec.Online) {
	o.Addrs = l.addresses("online.addrs", d.Addrs)
	o.Mode = Single
	if d.Mode != "" {
		o.Mode = l.choice("online.mode", d.Mode, Single, Sentinel, Cluster)
	}
	o.Username, _ = l.text("online.username", d.Username)
	o.Password = l.secret("online.password", d.Password)
	o.MasterName, _ = l.text("online.master_name", d.MasterName)
	o.TLS, o.DB = l.tls("online.tls", d.TLS), d.DB
	if o.Username != "" && d.Password == "" {
		l.mistake("online.password", "missing: there is a username")
	}
	if o.DB < 0 {
		l.mistake("online.db", "%d is not a database: they are numbered from 0", o.DB)
	}
	switch o.Mode {
	case Single:
		if len(d.Addrs) > 1 {
			l.mistake("online.addrs", "%d addresses with mode single: give one, or say mode: cluster or mode: sentinel", len(d.Addrs))
		}
	case Sentinel:
		if d.MasterName == "" {
			l.mistake("online.master_name", "missing: mode sentinel asks the sentinels for a master by its name")
		}
	case Cluster:
		if o.DB > 0 {
			l.mistake("online.db", "%d with mode cluster: a cluster has database 0 alone", o.DB)
		}
	}
	if o.PoolSize = l.count("online.pool_size", d.PoolSize); o.PoolSize > maxPoolSize {
		l.mistake("online.pool_size", "%q is more than %d: Redis itself lets in 10000 clients unless it is told otherwise", d.PoolSize, maxPoolSize)
	}
	l.cache(o)
	if o.Mode != "" && o.Mode != Sentinel && d.MasterName != "" {
		l.mistake("online.master_name", "is of no use with mode %s: remove it, or say mode: sentinel", o.Mode)
	}
}

func (l *loader) stream(group string) *Stream {
	d := l.declared.Stream
	if len(d.Brokers) == 0 && d.Path == "" && d.SchemaRegistry == "" && d.SASL == (spec.SASL{}) && d.TLS == (spec.TLS{}) && d.Group == "" {
		if !l.local {
			return nil
		}
		d.Brokers = []string{Embedded}
	}
	s := &Stream{Group: group}
	if d.Group != "" {
		s.Group, _ = l.text("stream.group", d.Group)
	}
	if d.SchemaRegistry != "" {
		s.SchemaRegistry = l.url("stream.schema_registry", d.SchemaRegistry, "http", "https")
	}
	if i := slices.Index(d.Brokers, Embedded); i >= 0 {
		s.Embedded = true
		if len(d.Brokers) > 1 {
			l.mistake(fmt.Sprintf("stream.brokers[%d]", i), "embedded stands by itself: it is a Kafka in the process, for development")
		}
		if d.Path == "" && l.local {
			d.Path = "./.forebay/stream"
		}
		s.Path = l.path("stream.path", d.Path)
		l.unused("stream", "with embedded brokers", map[string]bool{"sasl": d.SASL != (spec.SASL{}), "tls": d.TLS.Enabled}, "sasl", "tls")
		return s
	}
	l.unused("stream", "without embedded brokers", map[string]bool{"path": d.Path != ""}, "path")
	s.Brokers = l.addresses("stream.brokers", d.Brokers)
	s.TLS = l.tls("stream.tls", d.TLS)
	s.SASL = l.sasl(d.SASL)
	return s
}

// The ways in which a generation goes live.
const (
	promoteAuto   = "auto"
	promoteManual = "manual"
)

func (l *loader) generations() Generations {
	d := l.declared.Generations
	g := Generations{Keep: DefaultKeep}
	if d.Promote != "" {
		g.Manual = l.choice("generations.promote", d.Promote, promoteAuto, promoteManual) == promoteManual
	}
	if d.Keep != "" {
		text, ok := l.text("generations.keep", d.Keep)
		if !ok {
			return g
		}
		keep, err := feature.ParseDuration(text)
		if err != nil {
			l.mistake("generations.keep", "%v", err)
			return g
		}
		g.Keep = keep
	}
	return g
}

func (l *loader) sasl(d spec.SASL) *SASL {
	if d == (spec.SASL{}) {
		return nil
	}
	s := &SASL{
		Mechanism: l.choice("stream.sasl.mechanism", d.Mechanism, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
		Password:  l.secret("stream.sasl.password", d.Password),
	}
	s.Username, _ = l.text("stream.sasl.username", d.Username)
	if d.Username == "" {
		l.mistake("stream.sasl.username", "missing")
	}
	if d.Password == "" {
		l.mistake("stream.sasl.password", "missing")
	}
	return s
}
