package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebay/forebay/registry/feature"
)

// Cache says what a process keeps of what it has read from Redis.
type Cache struct {
	// MaxBytes bounds its memory; 0 is no cache.
	MaxBytes int64
	// MaxAge bounds the age of what it serves.
	MaxAge time.Duration
	// MaxStale bounds the age of what it serves, marked so, while Redis is away; 0 serves nothing then.
	MaxStale time.Duration
}

// cache reads online.cache and online.hedge.
func (l *loader) cache(o *Online) {
	d := l.declared.Online
	o.Hedge = l.span("online.hedge", d.Hedge, time.Minute)
	if o.Hedge > 0 && o.Mode == Single {
		l.mistake("online.hedge", "is of no use with mode single, which knows no replicas: remove it, or say mode: sentinel or mode: cluster")
	}
	if !l.declared.Given("online.cache") {
		return
	}
	o.Cache = Cache{
		MaxBytes: l.bytes("online.cache.max_bytes", d.Cache.MaxBytes),
		MaxAge:   l.span("online.cache.max_age", d.Cache.MaxAge, 24*time.Hour),
		MaxStale: l.span("online.cache.max_stale", d.Cache.MaxStale, 7*24*time.Hour),
	}
	if d.Cache.MaxBytes == "" {
		l.mistake("online.cache.max_bytes", "missing: say how much memory the cache may take, such as 256MiB")
	}
	if d.Cache.MaxAge == "" {
		l.mistake("online.cache.max_age", "missing: say how old a value may be that is served, such as 10s")
	}
	if o.Cache.MaxStale > 0 && o.Cache.MaxStale < o.Cache.MaxAge {
		l.mistake("online.cache.max_stale", "%q is less than max_age, %q", d.Cache.MaxStale, d.Cache.MaxAge)
	}
}

// span is a duration above 0 and at most so long; milliseconds too. 0 where it is not given.
func (l *loader) span(field, raw string, most time.Duration) time.Duration {
	text, ok := l.text(field, raw)
	if !ok || raw == "" {
		return 0
	}
	var span time.Duration
	if digits, milliseconds := strings.CutSuffix(text, "ms"); milliseconds {
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			l.mistake(field, "%q is not a duration such as 5ms or 10s", raw)
			return 0
		}
		span = time.Duration(n) * time.Millisecond //nolint:gosec // 32 bits
	} else {
		d, err := feature.ParseDuration(text)
		if err != nil {
			l.mistake(field, "%v", err)
			return 0
		}
		if d != feature.Lifetime {
			span = time.Duration(min(d, feature.Week*1000)) * time.Microsecond
		}
	}
	if span <= 0 || span > most {
		l.mistake(field, "%q: want more than nothing and at most %s", raw, feature.Duration(most/time.Microsecond))
		return 0
	}
	return span
}

var byteUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"", 1}}

// bytes is a number of bytes above 0, with a unit or without; 0 where it is not given.
func (l *loader) bytes(field, raw string) int64 {
	text, ok := l.text(field, raw)
	if !ok || raw == "" {
		return 0
	}
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err == nil && n > 0 && n <= 1<<50/u.bytes {
			return n * u.bytes
		}
		break
	}
	l.mistake(field, "%s", fmt.Sprintf("%q is not a number of bytes such as 268435456 or 256MiB", raw))
	return 0
}
