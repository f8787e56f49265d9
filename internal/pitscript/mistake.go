package pitscript

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a script.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1
	Column int    `json:"column"` // from 1, counted in characters
}

func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Compare orders places by where they are in their file.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(p.File, o.File), cmp.Compare(p.Line, o.Line), cmp.Compare(p.Column, o.Column))
}

// Mistake is something in a script that makes no sense.
type Mistake struct {
	Position
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// String is the mistake on one line: file:line:column: message (hint).
func (m Mistake) String() string {
	s := m.Position.String() + ": " + m.Message
	if m.Hint != "" {
		s += " (" + m.Hint + ")"
	}
	return s
}

// Mistakes are all those of a script, in the order of their places. It is an error
// where there is at least one.
type Mistakes []Mistake

// Error is the mistakes, one per line.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

func (ms Mistakes) sorted() Mistakes {
	slices.SortStableFunc(ms, func(a, b Mistake) int { return a.Position.Compare(b.Position) })
	return slices.Compact(ms)
}
