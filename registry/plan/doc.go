// Package plan compares what a repository declares with the newest revision: the
// typed changes, the generations that views get, what must be backfilled, what is
// dangerous about it, and whom it reaches.
//
// A view's generation is decided by the fingerprint of what decides the meaning of
// its stored values (fingerprint.go, docs/format/revision.md). Codes of findings are
// stable; docs/plan-codes.md lists them.
//
// Package plan reads nothing but what it is given, and changes nothing.
package plan
