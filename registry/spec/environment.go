package spec

import (
	"regexp"
	"strconv"
	"strings"
)

var environmentName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)

// Environment says where a project's data lies: one entry of environments: in
// forebay.yaml, as it is written. What is not given is the zero value; the
// package internal/config fills in defaults, reads ${env:X} and ${file:X}, and
// checks.
type Environment struct {
	Name     string
	Registry string // the URL of an object store
	Offline  Offline
	Online   Online
	Stream   Stream
	// Generations says how a generation of a view goes live, and how long the one before is kept.
	Generations Generations
	// Server is how it is served over HTTP.
	Server Server

	at     Position
	places map[string]Position
}

// Position is the place of a value, named by its keys: "online.addrs". Where the
// value is not given, it is the place of what should hold it.
func (e *Environment) Position(path string) Position {
	for {
		if p, ok := e.places[path]; ok {
			return p
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return e.at
		}
		path = path[:i]
	}
}

// Given reports whether a value, named as for Position, is written in the file.
func (e *Environment) Given(path string) bool {
	_, ok := e.places[path]
	return ok
}

// Offline is the offline store of an environment.
type Offline struct {
	Store string // parquet or clickhouse
	URL   string
}

// Online is the online store of an environment.
type Online struct {
	Store      string // embedded or redis
	Path       string // of the embedded store
	Addrs      []string
	Mode       string // of Redis: single, sentinel or cluster
	MasterName string // of Sentinel
	DB         int
	Username   string
	Password   string
	TLS        TLS
	Cache      Cache
	Hedge      string // a duration, after which a replica is asked too
	PoolSize   string // a number: connections to each server
}

// Cache is what a process keeps of what it has read from Redis.
type Cache struct {
	MaxBytes string // a number, or one with a unit
	MaxAge   string // a duration
	MaxStale string // a duration
}

// Stream is the Kafka of an environment.
type Stream struct {
	Brokers        []string // or "embedded" alone
	Path           string   // of the embedded one
	SchemaRegistry string   // its URL
	SASL           SASL
	TLS            TLS
	Group          string // the consumer group
}

// Generations is what becomes of the generations of views in an environment.
type Generations struct {
	Promote string // auto or manual
	Keep    string // a duration
}

// SASL is how to prove to Kafka who one is.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; "" for none
	Username  string
	Password  string
}

// TLS says whether and how a connection is encrypted: true, false, or a mapping.
type TLS struct {
	Enabled            bool
	CA, Cert, Key      string // paths of PEM files; "" for the system's, and for none
	InsecureSkipVerify bool
}

// defaultEnvironment is the environment of a project that names none.
func defaultEnvironment() Environment {
	return Environment{
		Name:     "local",
		Registry: "file://./.forebay/registry",
		Offline:  Offline{Store: "parquet", URL: "file://./.forebay/offline"},
		Online:   Online{Store: "embedded", Path: "./.forebay/online"},
		Stream:   Stream{Brokers: []string{"embedded"}, Path: "./.forebay/stream"},
		at:       Position{SettingsFile, 1, 1},
	}
}

// environments reads environments:, in the order of the file.
func (l *loader) environments(i item) []Environment {
	var es []Environment
	entries := i.entries()
	if len(entries) == 0 && i.kind() == "a mapping" {
		i.report(MissingKey, "leave the key out to have the default one, local", "there is no environment")
	}
	for _, e := range entries {
		if !environmentName.MatchString(e.key.string) {
			e.key.report(BadName, "letters, digits, _ and -, at most 63, a letter first", "%q cannot be the name of an environment", e.key.string)
			continue
		}
		o, ok := e.value.object("an environment")
		if !ok {
			continue
		}
		r := environmentReader{&Environment{Name: e.key.string, at: e.key.at(), places: map[string]Position{}}}
		r.environment(o)
		es = append(es, *r.Environment)
	}
	return es
}

// environmentReader reads one environment and keeps the places of its values.
type environmentReader struct{ *Environment }

func (r environmentReader) environment(o *object) {
	r.text(o, "", "registry", &r.Registry)
	if p, ok := r.section(o, "", "offline"); ok {
		r.text(p, "offline.", "store", &r.Offline.Store)
		r.text(p, "offline.", "url", &r.Offline.URL)
		p.finish()
	}
	if p, ok := r.section(o, "", "online"); ok {
		r.online(p)
		p.finish()
	}
	if p, ok := r.section(o, "", "stream"); ok {
		r.stream(p)
		p.finish()
	}
	if p, ok := r.section(o, "", "server"); ok {
		r.server(p)
		p.finish()
	}
	if p, ok := r.section(o, "", "generations"); ok {
		r.text(p, "generations.", "promote", &r.Generations.Promote)
		r.text(p, "generations.", "keep", &r.Generations.Keep)
		p.finish()
	}
	o.finish()
}

func (r environmentReader) online(o *object) {
	const in = "online."
	r.text(o, in, "store", &r.Online.Store)
	r.text(o, in, "path", &r.Online.Path)
	r.texts(o, in, "addrs", &r.Online.Addrs)
	r.text(o, in, "mode", &r.Online.Mode)
	r.text(o, in, "master_name", &r.Online.MasterName)
	r.text(o, in, "username", &r.Online.Username)
	r.text(o, in, "password", &r.Online.Password)
	r.tls(o, in, &r.Online.TLS)
	r.text(o, in, "hedge", &r.Online.Hedge)
	r.number(o, in, "pool_size", &r.Online.PoolSize)
	if p, ok := r.section(o, in, "cache"); ok {
		r.number(p, in+"cache.", "max_bytes", &r.Online.Cache.MaxBytes)
		r.text(p, in+"cache.", "max_age", &r.Online.Cache.MaxAge)
		r.text(p, in+"cache.", "max_stale", &r.Online.Cache.MaxStale)
		p.finish()
	}
	if i, ok := o.get("db"); ok {
		r.places[in+"db"] = i.at()
		n, err := strconv.Atoi(i.raw())
		switch {
		case i.kind() != "a whole number":
			i.wrong("a whole number")
		case err != nil || n < 0:
			i.report(BadValue, "", "%s is not the number of a database", i.raw())
		}
		r.Online.DB = n
	}
}

func (r environmentReader) stream(o *object) {
	const in = "stream."
	r.texts(o, in, "brokers", &r.Stream.Brokers)
	r.text(o, in, "path", &r.Stream.Path)
	r.text(o, in, "schema_registry", &r.Stream.SchemaRegistry)
	r.text(o, in, "group", &r.Stream.Group)
	r.tls(o, in, &r.Stream.TLS)
	if p, ok := r.section(o, in, "sasl"); ok {
		r.text(p, in+"sasl.", "mechanism", &r.Stream.SASL.Mechanism)
		r.text(p, in+"sasl.", "username", &r.Stream.SASL.Username)
		r.text(p, in+"sasl.", "password", &r.Stream.SASL.Password)
		p.finish()
	}
}

func (r environmentReader) section(o *object, in, key string) (*object, bool) {
	i, ok := o.get(key)
	if !ok {
		return nil, false
	}
	r.places[in+key] = o.key(key).at()
	return i.object(key)
}

func (r environmentReader) text(o *object, in, key string, to *string) {
	if t := o.text(key); t.given() {
		*to, r.places[in+key] = t.string, t.at()
	}
}

func (r environmentReader) texts(o *object, in, key string, to *[]string) {
	i, ok := o.get(key)
	if !ok {
		return
	}
	r.places[in+key] = i.at()
	for n, t := range i.texts() {
		*to = append(*to, t.string)
		r.places[in+key+"."+strconv.Itoa(n)] = t.at()
	}
}

// truth reads true or false.
func (i item) truth() bool {
	if i.kind() != "a bool" {
		i.wrong("true or false")
		return false
	}
	return i.raw() == "true" || i.raw() == "True" || i.raw() == "TRUE"
}

func (r environmentReader) tls(o *object, in string, to *TLS) {
	i, ok := o.get("tls")
	if !ok {
		return
	}
	in += "tls"
	r.places[in] = i.at()
	if i.kind() == "a bool" {
		to.Enabled = i.truth()
		return
	}
	if i.kind() != "a mapping" {
		i.wrong("true, false or a mapping")
		return
	}
	p, _ := i.object("tls")
	to.Enabled = true
	r.text(p, in+".", "ca", &to.CA)
	r.text(p, in+".", "cert", &to.Cert)
	r.text(p, in+".", "key", &to.Key)
	if v, ok := p.get("insecure_skip_verify"); ok {
		r.places[in+".insecure_skip_verify"] = v.at()
		to.InsecureSkipVerify = v.truth()
	}
	p.finish()
}
