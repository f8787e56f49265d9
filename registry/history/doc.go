// Package history keeps the revisions of a project in an object store: an
// append-only log with one immutable object a revision, created and never
// replaced.
//
//	revisions/0000000001.json
//	revisions/0000000002.json    the greatest number is the head
//
// An object is one line of JSON, written byte for byte as docs/format/revision.md
// says:
//
//	{"format":1,"id":"sha256:<64 hex digits>","revision":{…}}
//
// The ID is the SHA-256 of the object without its id member, so that every read
// checks that the object is what was appended, whatever the version that wrote
// it. A revision holds the ID of its parent, which makes a chain of the log.
//
// Creating the object of the next number is what decides between two that append
// at once: the store creates it for one of them and refuses the other. Buckets do
// it with a conditional write. Local folders do it with a hard link to a finished
// file, because gocloud.dev's fileblob looks and then renames, which two processes
// can do at the same time.
package history
