package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forebay/forebay/registry/spec"
)

// redisWith loads an environment with an online store in Redis.
func redisWith(t *testing.T, more string) (Online, error) {
	t.Helper()
	dir := t.TempDir()
	text := "version: 1\nproject: p\nenvironments:\n  local:\n    online: {" + more + "}\n"
	if err := os.WriteFile(filepath.Join(dir, spec.SettingsFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	settings, diagnostics := spec.LoadSettings(dir)
	if err := diagnostics.Err(); err != nil {
		return Online{}, err
	}
	e, err := Load(settings.Environments[0], Options{Root: dir, Project: "p", Lookup: func(string) (string, bool) { return "64MiB", true }})
	if err != nil {
		return Online{}, err
	}
	return e.Online, nil
}

func TestPoolSize(t *testing.T) {
	const redis = `store: redis, addrs: ["h:1"], `
	if got, err := redisWith(t, redis+`pool_size: 7`); err != nil || got.PoolSize != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	for section, want := range map[string]string{
		redis + `pool_size: 0`:                   "online.pool_size: \"0\" is not a whole number from 1",
		redis + `pool_size: -3`:                  "online.pool_size",
		redis + `pool_size: 100000`:              "online.pool_size: \"100000\" is more than 10000",
		redis + `pool_size: many`:                "a whole number",
		`store: embedded, path: x, pool_size: 7`: "online.pool_size: is of no use with store embedded",
	} {
		if _, err := redisWith(t, section); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", section, err, want)
		}
	}
}

func TestCache(t *testing.T) {
	const single, sentinel = `store: redis, addrs: ["h:1"], `, `store: redis, addrs: ["h:1"], mode: sentinel, master_name: m, `
	for section, want := range map[string]Online{
		single + `cache: {max_bytes: 1000000, max_age: 10s}`:                    {Cache: Cache{MaxBytes: 1e6, MaxAge: 10 * time.Second}},
		single + `cache: {max_bytes: 2GiB, max_age: 250ms, max_stale: 7d}`:      {Cache: Cache{MaxBytes: 2 << 30, MaxAge: 250 * time.Millisecond, MaxStale: 7 * 24 * time.Hour}},
		sentinel + `hedge: 5ms, cache: {max_bytes: "${env:SIZE}", max_age: 1m}`: {Hedge: 5 * time.Millisecond, Cache: Cache{MaxBytes: 64 << 20, MaxAge: time.Minute}},
		sentinel + `hedge: 1s`: {Hedge: time.Second},
	} {
		got, err := redisWith(t, section)
		if err != nil || got.Cache != want.Cache || got.Hedge != want.Hedge {
			t.Errorf("%s: %+v, %v", section, got, err)
		}
	}
	for section, want := range map[string]string{
		single + `cache: {max_age: 10s}`:                                  "online.cache.max_bytes: missing",
		single + `cache: {max_bytes: 1MiB}`:                               "online.cache.max_age: missing",
		single + `cache: {max_bytes: 0, max_age: 1s}`:                     "not a number of bytes",
		single + `cache: {max_bytes: 1TB, max_age: 1s}`:                   "not a number of bytes",
		single + `cache: {max_bytes: 99999999999999GiB, max_age: 1s}`:     "not a number of bytes",
		single + `cache: {max_bytes: 1MB, max_age: 0s}`:                   "more than nothing",
		single + `cache: {max_bytes: 1MB, max_age: lifetime}`:             "more than nothing",
		single + `cache: {max_bytes: 1MB, max_age: 2d}`:                   "at most 1d",
		single + `cache: {max_bytes: 1MB, max_age: xms}`:                  "not a duration",
		single + `cache: {max_bytes: 1MB, max_age: 10s, max_stale: 5s}`:   "less than max_age",
		single + `cache: {max_bytes: 1MB, max_age: 10s, ttl: 5s}`:         "ttl",
		single + `hedge: 5ms`:                                             "mode single",
		`store: embedded, path: x, cache: {max_bytes: 1MB, max_age: 10s}`: "with store embedded",
		`store: embedded, path: x, hedge: 5ms`:                            "with store embedded",
	} {
		if _, err := redisWith(t, section); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", section, err, want)
		}
	}
}
