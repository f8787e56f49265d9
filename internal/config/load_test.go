package config

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/spec"
)

// variables is a LookupEnv over a map.
func variables(m map[string]string) LookupEnv {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

// production is an environment that uses everything.
func production() spec.Environment {
	var e spec.Environment
	e.Name = "production"
	e.Registry = "s3://acme-features/registry?region=eu-west-1"
	e.Offline.Store, e.Offline.URL = "clickhouse", "${env:CLICKHOUSE_URL}"
	e.Online.Store, e.Online.Addrs, e.Online.Mode = "redis", []string{"redis:6379", "${env:SECOND}:6380"}, "sentinel"
	e.Online.Username, e.Online.Password, e.Online.TLS.Enabled, e.Online.MasterName, e.Online.DB = "u", "${file:secrets/redis}", true, "main", 2
	e.Stream.Brokers, e.Stream.SchemaRegistry = []string{"kafka:9092", "[::1]:9093"}, "http://registry:8081"
	e.Stream.TLS = spec.TLS{Enabled: true, CA: "ca.pem", Cert: "/etc/${env:SECOND}.pem", Key: "key.pem", InsecureSkipVerify: true}
	e.Stream.SASL.Mechanism, e.Stream.SASL.Username, e.Stream.SASL.Password = "SCRAM-SHA-512", "k", "pre-${env:P}-${env:P}"
	e.Generations.Promote, e.Generations.Keep = "manual", "2w"
	return e
}

// repository is a root with the file secrets/redis, and the variables of production.
func repository(t *testing.T) Options {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "secrets"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "secrets", "redis"), []byte("hush ${env:P}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{Root: root, Project: "flights", Lookup: variables(map[string]string{
		"CLICKHOUSE_URL": "clickhouse://user:hunter2@ch:9000/features?password=hunter3", "SECOND": "redis2", "P": "pässword", "EMPTY": "",
	})}
}

func TestLoad(t *testing.T) {
	o := repository(t)
	got, err := Load(production(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := &Environment{
		Name: "production", Root: o.Root, Registry: "s3://acme-features/registry?region=eu-west-1",
		Offline: Offline{Store: ClickHouse, URL: "clickhouse://user:hunter2@ch:9000/features?password=hunter3"},
		Online: Online{Store: Redis, Addrs: []string{"redis:6379", "redis2:6380"}, Mode: Sentinel, Username: "u",
			Password: "hush ${env:P}", TLS: TLS{Enabled: true}, MasterName: "main", DB: 2},
		Stream: &Stream{Brokers: []string{"kafka:9092", "[::1]:9093"}, SchemaRegistry: "http://registry:8081",
			SASL: &SASL{"SCRAM-SHA-512", "k", "pre-pässword-pässword"}, Group: "forebay-flights-production",
			TLS: TLS{Enabled: true, CA: filepath.Join(o.Root, "ca.pem"), Cert: "/etc/redis2.pem", Key: filepath.Join(o.Root, "key.pem"), InsecureSkipVerify: true}},
		Generations: Generations{Manual: true, Keep: 2 * feature.Week},
		Quarantine:  filepath.Join(o.Root, ".forebay", "quarantine"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("secrets or settings differ: got\n%+v\nwant\n%+v", got, want)
	}
}

// TestSecretsAreNotPrinted prints an environment in every way there is.
func TestSecretsAreNotPrinted(t *testing.T) {
	e, err := Load(production(), repository(t))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		fmt.Sprint(e.Online), fmt.Sprintf("%v", e), fmt.Sprintf("%+v", *e), fmt.Sprintf("%#v", e.Online), fmt.Sprintf("%#v", e.Offline), fmt.Sprintf("%s %q", e.Online.Password, e.Online.Password),
		fmt.Sprintf("%+v", *e.Stream.SASL), string(asJSON), e.Offline.URL.String(),
	} {
		for _, secret := range []string{"hush", "hunter", "pässword", "p%C3%A4ssword"} {
			if strings.Contains(printed, secret) {
				t.Errorf("%q is in %s", secret, printed)
			}
		}
	}
	if s := e.Online.Password.String(); s != "******" {
		t.Errorf("a secret is printed as %q", s)
	}
	if s := Secret("").String(); s != "" {
		t.Errorf("no secret is printed as %q", s)
	}
	if s := e.Offline.URL.String(); !strings.Contains(s, "ch:9000/features") {
		t.Errorf("a URL is printed as %q", s)
	}
}

func TestLoadLocal(t *testing.T) {
	o := repository(t)
	at := func(elem ...string) string { return filepath.Join(append([]string{o.Root}, elem...)...) }
	defaults := &Environment{
		Name: "local", Root: o.Root, Registry: URL("file://" + at(".forebay", "registry")),
		Offline:     Offline{Store: Parquet, URL: URL("file://" + at(".forebay", "offline"))},
		Online:      Online{Store: Embedded, Path: at(".forebay", "online")},
		Stream:      &Stream{Embedded: true, Path: at(".forebay", "stream"), Group: "forebay-flights-local"},
		Generations: Generations{Keep: feature.Day},
		Quarantine:  at(".forebay", "quarantine"),
	}
	got, err := Load(spec.Environment{Name: "local"}, o)
	if err != nil || !reflect.DeepEqual(got, defaults) {
		t.Errorf("got %+v, %v; want %+v", got, err, defaults)
	}

	var e spec.Environment
	e.Name = "ci"
	e.Registry = "file://../shared registry?x=1"
	e.Offline.Store, e.Offline.URL = "parquet", "file:///var/lib/../offline"
	e.Online.Store, e.Online.Path = "embedded", "data/online"
	got, err = Load(e, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{string(got.Registry), "file://" + filepath.Dir(o.Root) + "/shared%20registry?x=1"},
		{string(got.Offline.URL), "file:///var/offline"},
		{got.Online.Path, at("data", "online")},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	if got.Stream != nil {
		t.Errorf("a stream that was not declared: %+v", got.Stream)
	}
	if _, err := os.Stat(at(".forebay")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("loading made a folder: %v", err)
	}
}

func TestLoadMistakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(e *spec.Environment)
		want   string // the mistakes, one a line, without the environment's path
	}{
		{"nothing", func(e *spec.Environment) { *e = spec.Environment{Name: e.Name} }, `
			registry: missing: say where the revisions are, such as s3://bucket/registry (only the environment local has defaults)
			offline: missing: say where history is, such as {store: parquet, url: "s3://bucket/offline"} (only the environment local has defaults)
			online: missing: say where values are served from, such as {store: redis, addrs: ["redis:6379"]} (only the environment local has defaults)`},
		{"a variable", func(e *spec.Environment) { e.Stream.SASL.Password = "x${env:NOPE}" }, `
			stream.sasl.password: environment variable NOPE is not set`},
		{"a file", func(e *spec.Environment) { e.Online.Password = "${file:/no/such/file}" }, `
			online.password: reading a value from a file: open /no/such/file: no such file or directory`},
		{"a reference", func(e *spec.Environment) { e.Online.Username = "${vault:x}" }, `
			online.username: ${vault:x} is not a reference: write ${env:NAME} or ${file:PATH}`},
		{"an empty reference", func(e *spec.Environment) { e.Online.Username = "${env:}" }, `
			online.username: ${env:} is not a reference: write ${env:NAME} or ${file:PATH}`},
		{"an open reference", func(e *spec.Environment) { e.Online.Username = "a${env:P" }, `
			online.username: a reference is not closed: ${env:P`},
		{"registry", func(e *spec.Environment) { e.Registry = "ftp://x/y" }, `
			registry: "ftp://x/y" does not start with one of file://, s3://, gs://, azblob://, mem://`},
		{"registry as a path", func(e *spec.Environment) { e.Registry = "./registry" }, `
			registry: "./registry" does not start with one of file://, s3://, gs://, azblob://, mem://; a folder is written file://./folder`},
		{"registry without a bucket", func(e *spec.Environment) { e.Registry = "s3:///registry" }, `
			registry: "s3:///registry" names no host or bucket`},
		{"registry with a host", func(e *spec.Environment) { e.Registry = "file://registry/x" }, `
			registry: "file://registry/x" names the host "registry": a folder of the repository is written file://./folder, an absolute one file:///folder`},
		{"registry without a folder", func(e *spec.Environment) { e.Registry = "file://" }, `
			registry: "file://" names no folder`},
		{"not a URL", func(e *spec.Environment) { e.Registry = "s3://a b/%zz" }, `
			registry: "s3://a b/%zz" is not a URL: invalid character " " in host name`},
		{"not a URL, and secret", func(e *spec.Environment) { e.Offline.URL = "clickhouse://u:${env:P}@ h/%zz" }, `
			offline.url: "clickhouse://u:${env:P}@ h/%zz" is not a URL: it does not parse`},
		{"an empty variable", func(e *spec.Environment) { e.Offline.URL = "${env:EMPTY}" }, `
			offline.url: missing: it is a URL that starts with one of clickhouse://, tcp://, http://, https://`},
		{"offline store", func(e *spec.Environment) { e.Offline.Store = "clikhouse" }, `
			offline.store: "clikhouse" is not one of parquet, clickhouse; did you mean "clickhouse"?`},
		{"no offline store", func(e *spec.Environment) { e.Offline.Store = "" }, `
			offline.store: missing: it is one of parquet, clickhouse`},
		{"offline URL of another store", func(e *spec.Environment) { e.Offline.Store = "parquet" }, `
			offline.url: "${env:CLICKHOUSE_URL}" does not start with one of file://, s3://, gs://, azblob://`},
		{"online store", func(e *spec.Environment) { e.Online.Store = "memcached" }, `
			online.store: "memcached" is not one of redis, embedded`},
		{"online mode", func(e *spec.Environment) { e.Online.Mode = "clusters" }, `
			online.mode: "clusters" is not one of single, sentinel, cluster; did you mean "cluster"?`},
		{"promote", func(e *spec.Environment) { e.Generations.Promote = "manully" }, `
			generations.promote: "manully" is not one of auto, manual; did you mean "manual"?`},
		{"keep", func(e *spec.Environment) { e.Generations.Keep = "24" }, `
			generations.keep: "24" is not a duration such as 90s, 15m, 24h, 7d, 4w or lifetime`},
		{"no addresses", func(e *spec.Environment) { e.Online.Addrs = nil }, `
			online.addrs: missing: it is a list of host:port`},
		{"addresses", func(e *spec.Environment) {
			e.Online.Addrs = []string{"redis", ":6379", "redis:0", "redis:65536", "redis:x", "redis://h:1", "", "h:1"}
		}, `
			online.addrs[0]: "redis" is not host:port, such as redis.example.com:6379
			online.addrs[1]: ":6379" is not host:port, such as redis.example.com:6379
			online.addrs[2]: "redis:0" is not host:port, such as redis.example.com:6379
			online.addrs[3]: "redis:65536" is not host:port, such as redis.example.com:6379
			online.addrs[4]: "redis:x" is not host:port, such as redis.example.com:6379
			online.addrs[5]: "redis://h:1" is not host:port, such as redis.example.com:6379
			online.addrs[6]: "" is not host:port, such as redis.example.com:6379`},
		{"single with several", func(e *spec.Environment) { e.Online.Mode = "" }, `
			online.addrs: 2 addresses with mode single: give one, or say mode: cluster or mode: sentinel
			online.master_name: is of no use with mode single: remove it, or say mode: sentinel`},
		{"sentinel without a master", func(e *spec.Environment) { e.Online.MasterName = "" }, `
			online.master_name: missing: mode sentinel asks the sentinels for a master by its name`},
		{"cluster with a database", func(e *spec.Environment) { e.Online.Mode, e.Online.MasterName = "cluster", "" }, `
			online.db: 2 with mode cluster: a cluster has database 0 alone`},
		{"a negative database", func(e *spec.Environment) { e.Online.DB = -1 }, `
			online.db: -1 is not a database: they are numbered from 0`},
		{"a user without a password", func(e *spec.Environment) { e.Online.Password = "" }, `
			online.password: missing: there is a username`},
		{"redis with a path", func(e *spec.Environment) { e.Online.Path = "x" }, `
			online.path: is of no use with store redis: remove it`},
		{"embedded with redis' settings", func(e *spec.Environment) { e.Online.Store, e.Online.Path = "embedded", "x" }, `
			online.addrs: is of no use with store embedded: remove it
			online.mode: is of no use with store embedded: remove it
			online.username: is of no use with store embedded: remove it
			online.password: is of no use with store embedded: remove it
			online.tls: is of no use with store embedded: remove it
			online.master_name: is of no use with store embedded: remove it
			online.db: is of no use with store embedded: remove it`},
		{"embedded in a URL", func(e *spec.Environment) {
			*e = spec.Environment{Name: e.Name, Registry: e.Registry, Offline: e.Offline}
			e.Online.Store, e.Online.Path = "embedded", "file://./x"
		}, `
			online.path: "file://./x" is a URL: it must be a path`},
		{"embedded nowhere", func(e *spec.Environment) {
			*e = spec.Environment{Name: e.Name, Registry: e.Registry, Offline: e.Offline}
			e.Online.Store = "embedded"
		}, `
			online.path: missing: it is a path`},
		{"no brokers", func(e *spec.Environment) { e.Stream.Brokers = nil }, `
			stream.brokers: missing: it is a list of host:port`},
		{"a broker", func(e *spec.Environment) { e.Stream.Brokers = []string{"kafka"} }, `
			stream.brokers[0]: "kafka" is not host:port, such as redis.example.com:6379`},
		{"embedded among brokers", func(e *spec.Environment) { e.Stream.Brokers = []string{"kafka:9092", "embedded"} }, `
			stream.brokers[1]: embedded stands by itself: it is a Kafka in the process, for development
			stream.path: missing: it is a path
			stream.sasl: is of no use with embedded brokers: remove it
			stream.tls: is of no use with embedded brokers: remove it`},
		{"a path of brokers", func(e *spec.Environment) { e.Stream.Path = "x" }, `
			stream.path: is of no use without embedded brokers: remove it`},
		{"a schema registry", func(e *spec.Environment) { e.Stream.SchemaRegistry = "registry:8081" }, `
			stream.schema_registry: "registry:8081" does not start with one of http://, https://`},
		{"half a certificate", func(e *spec.Environment) { e.Stream.TLS.Key = "" }, `
			stream.tls: cert and key go together: one of them is missing`},
		{"sasl", func(e *spec.Environment) {
			e.Stream.SASL.Mechanism, e.Stream.SASL.Username, e.Stream.SASL.Password = "SCRAM", "", ""
		}, `
			stream.sasl.mechanism: "SCRAM" is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
			stream.sasl.username: missing
			stream.sasl.password: missing`},
		{"several", func(e *spec.Environment) { e.Registry, e.Online.Mode = "x", "y" }, `
			registry: "x" does not start with one of file://, s3://, gs://, azblob://, mem://; a folder is written file://./folder
			online.mode: "y" is not one of single, sentinel, cluster`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := production()
			c.change(&e)
			got, err := Load(e, repository(t))
			if got != nil || err == nil {
				t.Fatalf("loaded %+v", got)
			}
			var one *Error
			if !errors.As(err, &one) || !strings.HasPrefix(one.Field, "environments.production.") {
				t.Errorf("%v is not an *Error", err)
			}
			mistakes := strings.ReplaceAll(err.Error(), "environments.production.", "")
			if want := strings.TrimSpace(strings.ReplaceAll(c.want, "\t", "")); mistakes != want {
				t.Errorf("got\n%s\nwant\n%s", mistakes, want)
			}
		})
	}
}

// TestMistakesHavePlaces loads an environment from a file.
func TestMistakesHavePlaces(t *testing.T) {
	o := repository(t)
	const file = `version: 1
project: flights
environments:
  staging:
    registry: s3://bucket/registry
    offline: {store: parquet, url: "s3://bucket/offline"}
    online:
      store: redis
      addrs: ["redis:6379", "redis"]
      mode: cluster
      username: u
      password: ${env:NOPE}
`
	if err := os.WriteFile(filepath.Join(o.Root, spec.SettingsFile), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	settings, mistakes := spec.LoadSettings(o.Root)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	e, err := Choose(settings.Environments, "staging", o.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Load(e, o)
	want := `forebay.yaml:9:29: environments.staging.online.addrs[1]: "redis" is not host:port, such as redis.example.com:6379
forebay.yaml:12:17: environments.staging.online.password: environment variable NOPE is not set`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var lines []string
	for _, d := range Diagnostics(err) {
		lines = append(lines, d.Position.String()+": "+d.Message)
	}
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("as diagnostics: got\n%v\nwant\n%s", got, want)
	}
}

func TestCheck(t *testing.T) {
	broken, good := production(), production()
	broken.Offline.Store = "parket"
	ds := Check([]spec.Environment{good, broken}, t.TempDir(), "flights")
	if len(ds) != 1 || ds[0].Code != spec.BadSetting || !strings.HasPrefix(ds[0].Message, `environments.production.offline.store: "parket" is not one of`) {
		t.Errorf("without variables and files: got %v", ds)
	}
}

func TestTLSConfig(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.pem")
	if err := os.WriteFile(bad, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A server of the standard library has a certificate that can serve as an authority and as a pair.
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	good, goodKey := filepath.Join(dir, "good.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{good: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, goodKey: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := (TLS{CA: bad}).Config(); c != nil || err != nil {
		t.Errorf("not enabled: %v, %v", c, err)
	}
	c, err := TLS{Enabled: true, CA: good, Cert: good, Key: goodKey, InsecureSkipVerify: true}.Config()
	if err != nil || c.RootCAs == nil || len(c.Certificates) != 1 || !c.InsecureSkipVerify {
		t.Errorf("everything: %+v, %v", c, err)
	}
	if c, err := (TLS{Enabled: true}).Config(); err != nil || c.RootCAs != nil || c.InsecureSkipVerify {
		t.Errorf("defaults: %+v, %v", c, err)
	}
	for _, wrong := range []TLS{{CA: bad}, {CA: dir + "/none"}, {Cert: good, Key: bad}, {Cert: bad, Key: goodKey}} {
		wrong.Enabled = true
		if _, err := wrong.Config(); err == nil || !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}
