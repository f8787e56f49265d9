package redis

import (
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/forebay/forebay/online"
)

// failed makes the error of a call that Redis did not do, with what to do about
// it where that is known.
func (s *Store) failed(doing string, err error) error {
	switch {
	case errors.Is(err, goredis.ErrClosed):
		return fmt.Errorf("%w: %s: %s", online.ErrClosed, s.addr, doing)
	case goredis.IsOOMError(err):
		return fmt.Errorf("%w: %s: %s: it has reached its maxmemory; raise that, or drop generations that nobody reads: %w", online.ErrFull, s.addr, doing, err)
	}
	if hint := hintOf(err); hint != "" && (s.o.Mode != Cluster || !isMoved(err)) {
		err = fmt.Errorf("%s: %w", hint, err)
	}
	return online.Unavailable(s.addr, doing, err)
}

func hintOf(err error) string {
	switch {
	case goredis.IsAuthError(err):
		return "check username and password"
	case goredis.IsPermissionError(err):
		return "the ACL user may not do this; docs/format/redis-keys.md lists the keys and commands it needs"
	case goredis.IsLoadingError(err):
		return "it is loading its data into memory"
	case goredis.IsReadOnlyError(err):
		return "it is a replica; address the master, or use mode sentinel or cluster"
	case goredis.IsClusterDownError(err):
		return "the cluster lacks a shard"
	case goredis.IsMaxClientsError(err):
		return "it has too many clients; raise its maxclients, or lower online.pool_size in forebay.yaml"
	case goredis.HasErrorPrefix(err, "MISCONF"):
		return "it refuses writes because it cannot save them to disk"
	case goredis.HasErrorPrefix(err, "WRONGTYPE"):
		return "a key of Forebay's holds something else; use another db or project"
	case goredis.HasErrorPrefix(err, "CROSSSLOT"), isMoved(err):
		return "it is a Redis Cluster; use mode cluster"
	}
	return ""
}

func isMoved(err error) bool {
	_, moved := goredis.IsMovedError(err)
	_, ask := goredis.IsAskError(err)
	return moved || ask
}

// passing reports whether one command of a pipeline failed for a reason that
// goes away by itself: a slot that moves, a failover, a start.
func passing(err error) bool {
	return goredis.IsTryAgainError(err) || goredis.IsClusterDownError(err) || goredis.IsLoadingError(err) ||
		goredis.IsReadOnlyError(err) || goredis.IsMasterDownError(err) || isMoved(err)
}
