// Package embedded keeps online records in a folder, in a Pebble database: the
// online store of a machine without Redis.
//
//	DIR/FORMAT        "forebay online 1", and the project: the version of this layout
//	DIR/owner.lock    locked (flock) by the process that has the folder open
//	DIR/owner.json    who that is, and the socket on which it serves others
//	DIR/online.sock   that socket
//	DIR/pebble/       the database; its keys are in docs/format/pebble-keys.md
//
// One process owns the folder. It opens it with [Open] and may let others work
// through it with [Store.Serve]; they find it with [Dial]. A second Open fails with
// [*HeldError], which says who has it. The lock is gone with its process, however that ends.
//
// Writes are compared and set under striped locks, so that writers of different
// entities do not wait for each other. A Write returns once its records are in
// the log on disk, unless Options.NoSync is set; SetResumes and SetLive always do,
// and what is written to the log later is never there without what was written before.
package embedded
