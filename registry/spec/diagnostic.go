package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Code names a sort of mistake. Codes are stable: programs may test for them.
// Each is explained in docs/errors.md.
type Code string

// The codes of a file that cannot be read as it should.
const (
	FileUnreadable  Code = "file-unreadable"  // the file cannot be opened or is too large
	MissingFile     Code = "missing-file"     // there is no forebay.yaml
	YAMLSyntax      Code = "yaml-syntax"      // the file is not YAML
	YAMLUnsupported Code = "yaml-unsupported" // anchors, aliases, tags, merge keys
)

// The codes of a document whose shape is wrong.
const (
	UnsupportedVersion Code = "unsupported-version" // forebay.yaml is of another version
	UnknownKind        Code = "unknown-kind"        // a document that is no definition
	UnknownKey         Code = "unknown-key"
	DuplicateKey       Code = "duplicate-key"
	MissingKey         Code = "missing-key"
	WrongType          Code = "wrong-type"    // a list where a text belongs, and the like
	BadName            Code = "bad-name"      // a name of letters that names cannot have
	BadValue           Code = "bad-value"     // a value that is none of those allowed
	BadDuration        Code = "bad-duration"  // not a duration, or of a length that makes no sense
	UnknownType        Code = "unknown-type"  // not a type of features
	BadReference       Code = "bad-reference" // not written as a feature reference is
	BadSetting         Code = "bad-setting"   // a value of an environment that cannot be used
)

// The codes of definitions that do not fit together.
const (
	DuplicateName    Code = "duplicate-name"    // two definitions, columns, features or windows of one name
	UnknownReference Code = "unknown-reference" // a name that nothing has
	TypeMismatch     Code = "type-mismatch"     // a column, feature or key of the wrong type
	Expression       Code = "expression"        // CEL that does not compile
	MissingColumn    Code = "missing-column"    // a source that lacks a view's join key
	BadJoinKey       Code = "bad-join-key"      // a join key of a type that cannot be one, or twice in a view
	NameClash        Code = "name-clash"        // two values would be called the same in an answer
	Cycle            Code = "cycle"             // on-demand views that read each other
	EmptyView        Code = "empty-view"        // a view without features
	TTLWithWindows   Code = "ttl-with-windows"  // a ttl on a view with aggregations
	BadAggregation   Code = "bad-aggregation"   // an aggregation that cannot be computed
	BadHop           Code = "bad-hop"           // a hop longer than its window, or of no window
)

// Position is a place in a file of the repository.
type Position struct {
	File   string `json:"file"`   // relative to the repository's root, with slashes
	Line   int    `json:"line"`   // from 1
	Column int    `json:"column"` // from 1, counted in characters
}

func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// Diagnostic is one mistake in a feature repository.
type Diagnostic struct {
	Code Code `json:"code"`
	Position
	Message string `json:"message"`        // what is wrong
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// String is the diagnostic on one line: file:line:column: message [code] (hint).
func (d Diagnostic) String() string {
	s := fmt.Sprintf("%s: %s [%s]", d.Position, d.Message, d.Code)
	if d.Hint != "" {
		s += " (" + d.Hint + ")"
	}
	return s
}

// Diagnostics are mistakes in the order of their places. It is an error where
// there is at least one.
type Diagnostics []Diagnostic

// Error is the diagnostics, one per line.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Err is ds as an error, or nil if there is no diagnostic.
func (ds Diagnostics) Err() error {
	if len(ds) == 0 {
		return nil
	}
	return ds
}

// And is ds and more, in order.
func (ds Diagnostics) And(more Diagnostics) Diagnostics {
	return slices.Concat(ds, more).sorted()
}

// sorted orders diagnostics by place and drops those said twice.
func (ds Diagnostics) sorted() Diagnostics {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(a.compare(b.Position), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(ds)
}
