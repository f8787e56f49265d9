package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/forebay/forebay/registry/canonical"
)

// FormatVersion is the version of manifests and of canonical rows. It is part of
// what makes a dataset's ID.
const FormatVersion = 1

// Manifest says what a training dataset is and what it was made of.
type Manifest struct {
	// ID is "sha256:" and the SHA-256, in hex, of the canonical form of Inputs.
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"` // UTC, to the microsecond; not part of the ID
	Inputs  Inputs    `json:"inputs"`
	// Rows is how many rows the dataset has: as many as the spine.
	Rows int64 `json:"rows"`
	// Columns are the dataset's: the spine's in their order, then the outputs.
	Columns []Column `json:"columns"`
	// ContentHash is that of the dataset's canonical rows.
	ContentHash string `json:"content_hash"`
}

// Inputs is everything that decides what a dataset holds.
type Inputs struct {
	Format   int    `json:"format"`   // FormatVersion
	Revision string `json:"revision"` // of the registry
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
}

// Table is a state of a view's derived table.
type Table struct {
	View       string `json:"view"`
	Generation int    `json:"generation"`
	Snapshot   string `json:"snapshot,omitempty"` // none where there is no table: nothing was ingested yet
}

// Column is a column of the dataset, with the canonical name of its type.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// id is the ID that the inputs give.
func (in Inputs) id() (string, error) {
	raw, err := canonical.Marshal(in)
	if err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// A manifest is kept as {"format":1,"manifest":{…}} in canonical form.
const manifestStart = `{"format":1,"manifest":`

// Marshal is the manifest as it is kept.
func (m Manifest) Marshal() ([]byte, error) {
	raw, err := canonical.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return slices.Concat([]byte(manifestStart), raw, []byte("}")), nil
}

// ErrDamaged means: a kept manifest is not what was written.
var ErrDamaged = errors.New("the manifest is damaged")

// Unmarshal reads what Marshal wrote, and checks the ID.
func Unmarshal(b []byte) (Manifest, error) {
	var outer struct {
		Format   int             `json:"format"`
		Manifest json.RawMessage `json:"manifest"`
	}
	if err := json.Unmarshal(b, &outer); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if outer.Format != FormatVersion {
		return Manifest{}, fmt.Errorf("a manifest of format %d: this Forebay reads format %d; use a newer one", outer.Format, FormatVersion)
	}
	var m Manifest
	if err := json.Unmarshal(outer.Manifest, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	// The ID is that of the bytes that are there, so that members which this version
	// does not know count too.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(outer.Manifest, &members); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	raw, err := canonical.Append(nil, members["inputs"])
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sum := sha256.Sum256(raw)
	if !bytes.Equal([]byte(m.ID), []byte("sha256:"+hex.EncodeToString(sum[:]))) {
		return Manifest{}, fmt.Errorf("%w: its inputs do not give its ID %s", ErrDamaged, m.ID)
	}
	return m, nil
}
