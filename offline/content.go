package offline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
)

// NoRows is the Role.Snapshot of a derived table that did not exist yet.
const NoRows = "none"

// ErrSnapshotGone means: a table no longer has the state that was asked for; it was expired, or its data
// was removed, or it is another table.
var ErrSnapshotGone = errors.New("the snapshot is gone")

// ChainFile continues a log's chains by an append from a file (docs/format/offline-log.md): one of what
// was appended, which is the same wherever the same is appended in the same order, and one with the
// instants besides. Both are "" before the first. A push has no content hash, so its instant is in both.
func ChainFile(chain, timed string, src *registry.Source, file FileOrigin, rows, instant int64) (nextChain, nextTimed string) {
	shape, err := json.Marshal(struct {
		Timestamp, Created string
		Columns            []registry.SourceColumn
	}{src.Timestamp, src.Created, src.Columns})
	if err != nil {
		panic("offline: a source's columns as JSON: " + err.Error()) // strings and numbers: it cannot fail
	}
	link := func(before, what string) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "forebay file 1\n%s\n%s\n%d\n%s\n", before, what, rows, shape))
		return hex.EncodeToString(sum[:])
	}
	pushed := fmt.Sprintf("push %d", instant)
	if file.Hash == "" {
		return link(chain, pushed), link(timed, pushed)
	}
	return link(chain, file.Hash), link(timed, fmt.Sprintf("%s %d", file.Hash, instant))
}

// LogContent says what a log holds: the chain of its files, and of a topic the next offset of each
// partition. It is "sha256:" and hex.
func LogContent(chain, topic string, next map[int32]int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "forebay log 1\n%s\n%s\n", chain, topic)
	for _, p := range slices.Sorted(maps.Keys(next)) {
		fmt.Fprintf(&b, "%d %d\n", p, next[p])
	}
	sum := sha256.Sum256([]byte(b.String()))
	return "sha256:" + hex.EncodeToString(sum[:])
}
