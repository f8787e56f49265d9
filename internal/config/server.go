package config

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Server is how the environment is served over HTTP. The zero value is what holds where nothing is given.
type Server struct {
	// APIKeys are the keys of which a request must carry one; none lets everybody in.
	APIKeys []Secret
	// RateLimit is how many lookups and pushes each key may ask for in a second, or all together where there are no keys; 0 for any number.
	RateLimit int
	// MaxConcurrent is how many lookups and pushes are answered at a time; 0 for the server's default.
	MaxConcurrent int
	// Timeout bounds a lookup or a push; 0 for the server's default.
	Timeout time.Duration
}

// minAPIKey is the least length of an API key: shorter ones can be guessed.
const minAPIKey = 8

func (l *loader) server() (s Server) {
	d := l.declared.Server
	for i, raw := range d.APIKeys {
		field := fmt.Sprintf("server.api_keys[%d]", i)
		text, ok := l.text(field, raw)
		key := Secret(text)
		switch {
		case !ok:
		case len(key) < minAPIKey:
			l.mistake(field, "has %d characters: an API key has %d at least", len(key), minAPIKey)
		case slices.Contains(s.APIKeys, key):
			l.mistake(field, "is there twice")
		default:
			s.APIKeys = append(s.APIKeys, key)
		}
	}
	s.RateLimit = l.count("server.rate_limit", d.RateLimit)
	s.MaxConcurrent = l.count("server.max_concurrent", d.MaxConcurrent)
	s.Timeout = l.span("server.timeout", d.Timeout, time.Hour)
	return s
}

// count is a whole number from 1; 0 where it is not given.
func (l *loader) count(field, raw string) int {
	if raw == "" {
		return 0
	}
	text, ok := l.text(field, raw)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		l.mistake(field, "%q is not a whole number from 1", raw)
		return 0
	}
	return n
}
