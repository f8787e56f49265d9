package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/canonical"
	"github.com/forebay/forebay/registry/feature"
)

// meaning is what decides the meaning of a view's stored values, in the form that
// is hashed. It is persisted through the fingerprints (docs/format/revision.md):
// what is added to it must be left out where it is empty.
type meaning struct {
	Format       int                  `json:"format"`
	JoinKeys     []feature.Field      `json:"join_keys,omitempty"` // of all entities, in order
	Source       sourceMeaning        `json:"source"`
	Filter       string               `json:"filter,omitempty"`
	Features     []featureMeaning     `json:"features,omitempty"` // in order: they are the columns of stored rows
	Aggregations []aggregationMeaning `json:"aggregations,omitempty"`
	Hops         []registry.Hop       `json:"hops,omitempty"`
}

type sourceMeaning struct {
	Name      string         `json:"name"`
	Timestamp sourceColumn   `json:"timestamp"`
	Created   *sourceColumn  `json:"created,omitempty"`
	Reads     []sourceColumn `json:"reads,omitempty"` // by the view, sorted by name
}

type sourceColumn struct {
	Name string       `json:"name"`
	Type feature.Type `json:"type"`
	From string       `json:"from"` // the outside name
}

type featureMeaning struct {
	Name string       `json:"name"`
	Type feature.Type `json:"type"`
	Expr string       `json:"expr"`
}

type aggregationMeaning struct {
	Function string            `json:"function"`
	Column   string            `json:"column,omitempty"`
	By       string            `json:"by,omitempty"`
	N        int               `json:"n,omitempty"`
	Where    string            `json:"where,omitempty"`
	Windows  []registry.Window `json:"windows"`
	Name     string            `json:"name,omitempty"`
}

// Fingerprint is the SHA-256, in hex, of what decides the meaning of the values
// that a view of p stores: its join keys, their types and order; its source, the
// source's event time and created columns, and the columns it reads, with their
// types and outside names; its filter, features, aggregations and hops, in order.
// White space and comments in expressions do not count, and nor do ttl,
// description, owner, tags, and where the source's rows come from.
func Fingerprint(p *registry.Project, v *registry.FeatureView) (string, error) {
	m, err := meaningOf(p, v)
	if err != nil {
		return "", err
	}
	form, err := canonical.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("fingerprint of view %q: %w", v.Name, err)
	}
	sum := sha256.Sum256(form)
	return hex.EncodeToString(sum[:]), nil
}

func meaningOf(p *registry.Project, v *registry.FeatureView) (*meaning, error) {
	src := p.Source(v.Source)
	if src == nil {
		return nil, fmt.Errorf("view %q reads source %q, which the project does not have", v.Name, v.Source)
	}
	for _, e := range v.Entities {
		if p.Entity(e) == nil {
			return nil, fmt.Errorf("view %q is of entity %q, which the project does not have", v.Name, e)
		}
	}
	column := func(name string) (sourceColumn, error) {
		i := src.Column(name)
		if i < 0 {
			return sourceColumn{}, fmt.Errorf("source %q has no column %q", src.Name, name)
		}
		c := src.Columns[i]
		return sourceColumn{Name: c.Name, Type: c.Type, From: c.Outside()}, nil
	}
	m := &meaning{Format: 1, JoinKeys: p.JoinKeys(v), Filter: normalise(v.Filter), Hops: v.Hops, Source: sourceMeaning{Name: src.Name}}
	var err error
	if m.Source.Timestamp, err = column(src.Timestamp); err != nil {
		return nil, err
	}
	if src.Created != "" {
		created, err := column(src.Created)
		if err != nil {
			return nil, err
		}
		m.Source.Created = &created
	}
	for _, f := range v.Features {
		if v.Windowed() {
			break // the aggregations say it
		}
		m.Features = append(m.Features, featureMeaning{f.Name, f.Type, normalise(f.Expr)})
	}
	for _, a := range v.Aggregations {
		m.Aggregations = append(m.Aggregations, aggregationMeaning{a.Function, a.Column, a.By, a.N, normalise(a.Where), a.Windows, a.Name})
	}
	for _, name := range columnsRead(p, v, src) {
		c, err := column(name)
		if err != nil {
			return nil, err
		}
		m.Source.Reads = append(m.Source.Reads, c)
	}
	return m, nil
}

// columnsRead are the columns of a source that a view's values are made of: its
// join keys, and those whose names its expressions and aggregations mention.
// Going by the words of an expression may take in a column too many (one that is
// called as a function is), never one too few, and does not depend on a compiler.
func columnsRead(p *registry.Project, v *registry.FeatureView, src *registry.Source) []string {
	var words []string
	for _, k := range p.JoinKeys(v) {
		words = append(words, k.Name)
	}
	words = append(words, identifiers(v.Filter)...)
	for _, f := range v.Features {
		words = append(words, identifiers(f.Expr)...)
	}
	for _, a := range v.Aggregations {
		words = append(append(words, a.Column, a.By), identifiers(a.Where)...)
	}
	slices.Sort(words)
	words = slices.Compact(words)
	return slices.DeleteFunc(words, func(w string) bool { return src.Column(w) < 0 })
}

// normalise is an expression without the white space and comments that do not
// matter: what is left of them is one space after a word and before a word or a string.
func normalise(expr string) string {
	var b strings.Builder
	lastWord := false
	for _, t := range tokens(expr) {
		if lastWord && (wordByte(t[0]) || t[0] == '"' || t[0] == '\'') {
			b.WriteByte(' ')
		}
		b.WriteString(t)
		lastWord = wordByte(t[len(t)-1])
	}
	return b.String()
}

// identifiers are the words of an expression that are not in a string.
func identifiers(expr string) []string {
	return slices.DeleteFunc(tokens(expr), func(t string) bool {
		return !wordByte(t[0]) || t[0] >= '0' && t[0] <= '9' || !wordByte(t[len(t)-1])
	})
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// tokens splits a CEL expression into words (identifiers, keywords and numbers, a
// dot being a token of its own), string literals with their prefixes, and single
// characters of anything else. White space and comments are left out. It takes any
// text; what is not CEL comes out in some pieces.
func tokens(expr string) []string {
	var ts []string
	for i := 0; i < len(expr); {
		c := expr[i]
		start := i
		switch {
		case strings.IndexByte(" \t\r\n\f", c) >= 0:
			i++
			continue
		case strings.HasPrefix(expr[i:], "//"):
			if end := strings.IndexByte(expr[i:], '\n'); end >= 0 {
				i += end
			} else {
				i = len(expr)
			}
			continue
		case c == '"' || c == '\'':
			i = stringEnd(expr, i, false)
		case wordByte(c):
			for i < len(expr) && wordByte(expr[i]) {
				i++
			}
			// r"…", b'…', and both together, in either case.
			if i < len(expr) && (expr[i] == '"' || expr[i] == '\'') {
				if prefix := strings.ToLower(expr[start:i]); slices.Contains([]string{"r", "b", "rb", "br"}, prefix) {
					i = stringEnd(expr, i, strings.Contains(prefix, "r"))
				}
			}
		default:
			i++
		}
		ts = append(ts, expr[start:i])
	}
	return ts
}

// stringEnd is where the string literal ends whose quote is at i.
func stringEnd(expr string, i int, raw bool) int {
	quote := expr[i : i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(expr[i:], triple) {
		quote = triple
	}
	for i += len(quote); i < len(expr); i++ {
		switch {
		case expr[i] == '\\' && !raw:
			i++
		case strings.HasPrefix(expr[i:], quote):
			return i + len(quote)
		}
	}
	return len(expr)
}
