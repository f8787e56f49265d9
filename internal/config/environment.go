package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/forebay/forebay/registry/feature"
)

// Environment is one environment, complete and valid.
type Environment struct {
	Name string
	// Root is the absolute path of the repository.
	Root string
	// Registry is where the revisions are: an absolute file:// URL, or s3://, gs://, azblob:// or mem://.
	Registry URL
	Offline  Offline
	Online   Online
	// Stream is nil where the environment has no stream.
	Stream      *Stream
	Generations Generations
	Server      Server
	// Quarantine is the folder of rows that could not be ingested.
	Quarantine string
}

// The kinds of stores.
const (
	Parquet    = "parquet"    // offline: Iceberg tables of Parquet files
	ClickHouse = "clickhouse" // offline
	Redis      = "redis"      // online
	Embedded   = "embedded"   // online: Pebble in a folder; stream: Kafka in the process
)

// The ways in which Redis is run.
const (
	Single   = "single"
	Sentinel = "sentinel"
	Cluster  = "cluster"
)

// Offline is the offline store.
type Offline struct {
	Store string // Parquet or ClickHouse
	URL   URL
}

// Online is the online store.
type Online struct {
	Store string // Redis or Embedded
	// Path is the absolute path of the folder of an Embedded store.
	Path string

	Addrs      []string // host:port
	Mode       string   // Single, Sentinel or Cluster
	Username   string
	Password   Secret
	TLS        TLS
	MasterName string // for Sentinel
	DB         int
	Cache      Cache
	// Hedge is after how long without an answer a read is asked of a replica too; 0 for never.
	Hedge time.Duration
	// PoolSize is how many connections to each server lookups use at a time, and as many all else; 0 for the store's default.
	PoolSize int
}

// Stream is the Kafka that events come from.
type Stream struct {
	// Embedded says that Kafka runs in the process, with its data in Path; Brokers are then empty.
	Embedded bool
	Path     string   // absolute
	Brokers  []string // host:port
	// SchemaRegistry is the URL of the schema registry, "" for none.
	SchemaRegistry URL
	SASL           *SASL // nil for none
	TLS            TLS
	// Group is the consumer group: forebay-<project>-<environment> unless it is given.
	Group string
}

// Generations is what becomes of the generations of views.
type Generations struct {
	// Manual: a filled generation waits for `forebay generation promote`, where another is live.
	Manual bool
	// Keep is how long a generation is kept after it was live: DefaultKeep unless it is given, feature.Lifetime for ever.
	Keep feature.Duration
}

// DefaultKeep is how long a generation that was live is kept.
const DefaultKeep = feature.Day

// SASL is how to authenticate with Kafka.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username  string
	Password  Secret
}

// TLS says whether and how a connection is encrypted.
type TLS struct {
	Enabled bool
	// CA, Cert and Key are absolute paths of PEM files: "" for the system's authorities, and for no
	// certificate of our own.
	CA, Cert, Key      string
	InsecureSkipVerify bool // do not check whom we talk to
}

// Config reads the files and makes the settings of a connection; nil where it is not to be encrypted.
func (t TLS) Config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls: ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: ca: %s holds no certificate in PEM", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Secret is a string that is never printed; string(s) is what it holds.
type Secret string

const masked = "******"

// String is asterisks, or "" if there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URL is a URL that may hold a password, which is never printed; string(u) has it.
type URL string

// String is the URL with asterisks for the password.
func (u URL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return masked
	}
	query := parsed.Query()
	for name := range query {
		switch name {
		case "password", "token", "secret", "key", "sig", "access_key", "secret_key", "session_token":
			query.Set(name, masked)
			parsed.RawQuery = query.Encode()
		}
	}
	return parsed.Redacted()
}

// GoString is String.
func (u URL) GoString() string { return u.String() }

// MarshalText is String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
