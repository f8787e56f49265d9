package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/canonical"
)

// FormatVersion is the version of manifests. It is part of what makes a dataset's ID. Manifests of
// version 1, which said less, are still read.
const FormatVersion = 2

// Manifest says what a training dataset is and what it was made of.
type Manifest struct {
	// ID is "sha256:" and the SHA-256, in hex, of the canonical form of Inputs.
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"` // UTC, to the microsecond
	Inputs  Inputs    `json:"inputs"`
	// Rows is how many rows the dataset has: as many as the spine.
	Rows int64 `json:"rows"`
	// Columns are the dataset's: the spine's in their order, then the outputs.
	Columns []Column `json:"columns"`
	// ContentHash is that of the dataset's canonical rows.
	ContentHash string `json:"content_hash"`

	// What follows says where the inputs are; like all but Inputs it is no part of the ID.

	Revision string   `json:"revision,omitempty"` // the ID of the registry's revision
	Request  *Asked   `json:"request,omitempty"`
	States   []State  `json:"states,omitempty"` // of Inputs.Tables, in their order
	Kept     *Kept    `json:"kept,omitempty"`   // the spine's copy
	Pins     []string `json:"pins,omitempty"`   // the name under which States are pinned; none where they are not
}

// Asked is how the features were asked for.
type Asked struct {
	Service   string   `json:"service,omitempty"`
	Features  []string `json:"features,omitempty"`
	FullNames bool     `json:"full_names,omitempty"`
}

// State is where a table's state was found: the snapshot of the store that built the dataset.
type State struct {
	Snapshot    string `json:"snapshot"`
	LogSnapshot string `json:"log_snapshot,omitempty"`
}

// Kept is the copy of a spine, as it was given.
type Kept struct {
	Object string `json:"object"`
	Format string `json:"format"` // a media type
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the bytes, in hex
}

// Inputs is everything that decides what a dataset holds.
type Inputs struct {
	Format int `json:"format"` // FormatVersion
	// Revision was in version 1 what Definitions is now: the ID of a revision is that of one
	// registry, since it has a time and an author.
	Revision string `json:"revision,omitempty"`
	// Definitions is the hash of what the revision declares (see Definitions).
	Definitions string `json:"definitions,omitempty"`
	// Features are the outputs, in order.
	Features  []Feature `json:"features"`
	Timestamp string    `json:"timestamp"` // the spine's column of the instant
	KnownAt   string    `json:"known_at,omitempty"`
	Spine     SpineHash `json:"spine"`
	// Tables are the derived tables that were read, sorted by view and generation.
	Tables []Table `json:"tables"`
}

// SpineHash identifies the rows of a spine.
type SpineHash struct {
	Hash string `json:"hash"` // of its canonical rows
	Rows int64  `json:"rows"`
}

// Feature is one output and where it comes from.
type Feature struct {
	Name string `json:"name"` // of the column
	// Ref is the feature reference, with the generation for a feature view.
	Ref string `json:"ref"`
	// Keys are the spine's columns that identify the entity, one per join key of the
	// view; none for an on-demand view.
	Keys []string `json:"keys,omitempty"`
	// Reads are, for an on-demand feature, the features that it is computed from, and what they are computed from.
	Reads []Read `json:"reads,omitempty"`
}

// Read is a feature that an on-demand feature is computed from.
type Read struct {
	Ref  string   `json:"ref"`
	Keys []string `json:"keys"`
}

// Table is a state of a view's derived table.
type Table struct {
	View       string `json:"view"`
	Generation int    `json:"generation"`
	// Fingerprint is what decides the meaning of the generation's rows, in hex.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Content says what had been appended to the view's source (offline.LogContent), or "snapshot:" and the
	// snapshot of this store where it cannot tell; "" where nothing was.
	Content string `json:"content,omitempty"`
	// Snapshot was in version 1 what Content is now: snapshots are named at random.
	Snapshot string `json:"snapshot,omitempty"`
}

// Column is a column of the dataset, with the canonical name of its type.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Hash string `json:"hash,omitempty"` // the SHA-256, in hex, of its canonical values
}

// Definitions is the hash of what a revision declares: "sha256:" and the SHA-256, in hex, of the canonical
// form of its project and generations. Unlike the revision's ID it is the same wherever the same is declared.
func Definitions(r *registry.Revision) (string, error) {
	raw, err := canonical.Marshal(struct {
		Project     *registry.Project     `json:"project"`
		Generations []registry.Generation `json:"generations"`
	}{r.Project, r.Generations})
	if err != nil {
		return "", fmt.Errorf("definitions of revision %s: %w", r.ID, err)
	}
	return hashOf(raw), nil
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// id is the ID that the inputs give.
func (in Inputs) id() (string, error) {
	raw, err := canonical.Marshal(in)
	if err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	return hashOf(raw), nil
}

// Marshal is the manifest as it is kept: {"format":2,"manifest":{…}} in canonical form.
func (m Manifest) Marshal() ([]byte, error) {
	raw, err := canonical.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	start := `{"format":` + strconv.Itoa(m.Inputs.Format) + `,"manifest":`
	return slices.Concat([]byte(start), raw, []byte("}")), nil
}

// ErrDamaged means: a kept manifest, or a kept spine, is not what was written.
var ErrDamaged = errors.New("damaged")

// Unmarshal reads what Marshal wrote, and checks the ID.
func Unmarshal(b []byte) (Manifest, error) {
	var outer struct {
		Format   int             `json:"format"`
		Manifest json.RawMessage `json:"manifest"`
	}
	if err := json.Unmarshal(b, &outer); err != nil {
		return Manifest{}, fmt.Errorf("the manifest is %w: %w", ErrDamaged, err)
	}
	if outer.Format < 1 || outer.Format > FormatVersion {
		return Manifest{}, fmt.Errorf("a manifest of format %d: this Forebay reads formats up to %d; use a newer one", outer.Format, FormatVersion)
	}
	var m Manifest
	if err := json.Unmarshal(outer.Manifest, &m); err != nil {
		return Manifest{}, fmt.Errorf("the manifest is %w: %w", ErrDamaged, err)
	}
	// The ID is that of the bytes that are there, so that members which this version
	// does not know count too.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(outer.Manifest, &members); err != nil {
		return Manifest{}, fmt.Errorf("the manifest is %w: %w", ErrDamaged, err)
	}
	raw, err := canonical.Append(nil, members["inputs"])
	if err != nil {
		return Manifest{}, fmt.Errorf("the manifest is %w: %w", ErrDamaged, err)
	}
	if !bytes.Equal([]byte(m.ID), []byte(hashOf(raw))) {
		return Manifest{}, fmt.Errorf("the manifest is %w: its inputs do not give its ID %s", ErrDamaged, m.ID)
	}
	return m, nil
}
