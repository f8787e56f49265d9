package feature

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the basic kind of a type or of a value.
type Kind uint8

// The kinds. Null is the kind of a value that is absent; no type has it.
// The numbers are persisted (docs/format): they never change.
const (
	Null      Kind = 0
	Bool      Kind = 1
	Int64     Kind = 2
	Float64   Kind = 3
	String    Kind = 4
	Bytes     Kind = 5
	Timestamp Kind = 6 // microseconds since the Unix epoch, UTC
	List      Kind = 7
	Embedding Kind = 8 // a fixed number of float32
)

var kindNames = [...]string{"null", "bool", "int64", "float64", "string", "bytes", "timestamp", "list", "embedding"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Fixed reports whether values of the kind are eight bytes or fewer, and are
// held in [Column.Nums].
func (k Kind) Fixed() bool { return k == Bool || k == Int64 || k == Float64 || k == Timestamp }

// Type is the declared type of a column, a feature or a request field.
// Types are comparable with ==.
type Type struct {
	Kind Kind
	Elem Kind // of a List: bool, int64, float64, string, bytes or timestamp
	Dim  int  // of an Embedding: its length, 1 to MaxDim
}

// MaxDim is the greatest length of an embedding.
const MaxDim = 1 << 16

// Shorthands for the scalar types.
var (
	TypeBool      = Type{Kind: Bool}
	TypeInt64     = Type{Kind: Int64}
	TypeFloat64   = Type{Kind: Float64}
	TypeString    = Type{Kind: String}
	TypeBytes     = Type{Kind: Bytes}
	TypeTimestamp = Type{Kind: Timestamp}
)

// ListOf is the type of lists of a scalar kind.
func ListOf(elem Kind) Type { return Type{Kind: List, Elem: elem} }

// EmbeddingOf is the type of embeddings of n float32.
func EmbeddingOf(n int) Type { return Type{Kind: Embedding, Dim: n} }

// ParseType reads a type as it is written in YAML: a scalar's name,
// list<scalar> or embedding<N>.
func ParseType(s string) (Type, error) {
	for k := Bool; k <= Timestamp; k++ {
		if s == kindNames[k] {
			return Type{Kind: k}, nil
		}
	}
	if inner, ok := strings.CutPrefix(s, "list<"); ok {
		if inner, ok = strings.CutSuffix(inner, ">"); ok {
			if t, err := ParseType(inner); err == nil && t.Kind <= Timestamp {
				return ListOf(t.Kind), nil
			}
			return Type{}, fmt.Errorf("%q: a list holds bool, int64, float64, string, bytes or timestamp", s)
		}
	}
	if inner, ok := strings.CutPrefix(s, "embedding<"); ok {
		if inner, ok = strings.CutSuffix(inner, ">"); ok {
			if n, err := strconv.Atoi(inner); err == nil && n >= 1 && n <= MaxDim {
				return EmbeddingOf(n), nil
			}
			return Type{}, fmt.Errorf("%q: an embedding has 1 to %d dimensions", s, MaxDim)
		}
	}
	return Type{}, fmt.Errorf("unknown type %q", s)
}

// TypeNames lists what ParseType takes, for hints.
func TypeNames() []string {
	return []string{"bool", "int64", "float64", "string", "bytes", "timestamp",
		"list<bool>", "list<int64>", "list<float64>", "list<string>", "list<bytes>", "list<timestamp>", "embedding<N>"}
}

func (t Type) String() string {
	switch t.Kind {
	case List:
		return "list<" + t.Elem.String() + ">"
	case Embedding:
		return "embedding<" + strconv.Itoa(t.Dim) + ">"
	}
	return t.Kind.String()
}

// MarshalText writes the type as YAML and JSON hold it.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Type) UnmarshalText(b []byte) (err error) {
	*t, err = ParseType(string(b))
	return err
}

// Key reports whether a join key may have the type. Floats may not (they do
// not compare by value), nor may lists and embeddings.
func (t Type) Key() bool {
	switch t.Kind {
	case Bool, Int64, String, Bytes, Timestamp:
		return true
	}
	return false
}

// Field is a named type: a column of a source, a feature, a request field.
type Field struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
}
