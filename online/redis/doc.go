// Package redis keeps online records in Redis 7 or Valkey: a single server, one
// that Sentinels watch, or a Cluster.
//
// A record is one string under one key (docs/format/redis-keys.md):
//
//	PROJECT {TTT} GGGGGG ENTITY
//	        |     |      the entity key's bytes
//	        |     six characters for the view and its generation
//	        three characters that depend on the entity alone: the hash tag, by
//	        which all records of an entity, of whatever view, are in one slot
//
// Lookups are one MGET, or in a Cluster one pipeline per shard, all at once.
// Writes are compared and set by a script (write.lua), many records to a call and
// many calls to a round trip. What is kept for the project as a whole (live
// generations, resume points) lies in hashes of one slot, PROJECT{forebay}….
//
// In a Cluster these hashes are on one shard and the records on all: a shard
// that fails over to a replica that lags behind loses its last records, and the
// resume points on another shard do not know. Run Clusters with
// min-replicas-to-write, or materialize again after such a failover.
package redis
