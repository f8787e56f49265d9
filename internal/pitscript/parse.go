package pitscript

import (
	"strings"
	"unicode/utf8"

	"github.com/forebay/forebay/registry/nearest"
)

// word is a piece of a line, and where it begins.
type word struct {
	text   string
	line   int
	column int // from 1, in characters
}

// statement is one statement as it is written: its words, and its table if it has one.
type statement struct {
	line
	table []tableRow
}

// line is a line of a script without its comment.
type line struct {
	number   int
	text     string
	indented bool
}

// tableRow is one line of a table.
type tableRow struct {
	line  int
	cells []word
}

// parser reads the lines of a script.
type parser struct {
	file       string
	statements []statement
	mistakes   Mistakes
}

func (p *parser) mistake(at word, message, hint string) {
	p.mistakes = append(p.mistakes, Mistake{Position{p.file, at.line, at.column}, message, hint})
}

// parse parts a script into statements with their tables.
func (p *parser) parse(text string) {
	for n := 1; text != ""; n++ {
		var raw string
		raw, text, _ = strings.Cut(text, "\n")
		p.line(n, strings.TrimSuffix(raw, "\r"))
	}
}

func (p *parser) line(n int, raw string) {
	if !utf8.ValidString(raw) {
		p.mistake(word{line: n, column: 1}, "the line is not UTF-8", "write bytes in base64")
		return
	}
	l := line{number: n, text: uncommented(raw)}
	if strings.TrimSpace(l.text) == "" {
		return
	}
	l.indented = l.text[0] == ' ' || l.text[0] == '\t'
	if !l.indented {
		p.statements = append(p.statements, statement{line: l})
		return
	}
	first := word{line: n, column: 1 + len(l.text) - len(strings.TrimLeft(l.text, " \t"))}
	if len(p.statements) == 0 {
		p.mistake(first, "an indented line is part of a table, and no statement is above it", "statements begin at the left")
		return
	}
	last := &p.statements[len(p.statements)-1]
	last.table = append(last.table, tableRow{n, cells(l)})
}

// uncommented is a line without its comment: from a # that begins it or follows
// white space, outside of quotes.
func uncommented(raw string) string {
	quoted := false
	for i := 0; i < len(raw); i++ {
		switch b := raw[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case !quoted && b == '#' && (i == 0 || raw[i-1] == ' ' || raw[i-1] == '\t'):
			return strings.TrimRight(raw[:i], " \t")
		}
	}
	return strings.TrimRight(raw, " \t")
}

// split parts a text where a separator lies outside of quotes and brackets.
func split(text string, separator func(byte) bool) (parts []string, starts []int) {
	depth, quoted, start := 0, false, 0
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '[':
			depth++
		case b == ']' && depth > 0:
			depth--
		case depth == 0 && separator(b):
			parts, starts = append(parts, text[start:i]), append(starts, start)
			start = i + 1
		}
	}
	return append(parts, text[start:]), append(starts, start)
}

// cells parts a line of a table at its commas.
func cells(l line) []word {
	parts, starts := split(l.text, func(b byte) bool { return b == ',' })
	words := make([]word, len(parts))
	at := l.columns()
	for i, part := range parts {
		trimmed := strings.TrimLeft(part, " \t")
		words[i] = word{strings.TrimRight(trimmed, " \t"), l.number, at(starts[i] + len(part) - len(trimmed))}
	}
	return words
}

// words parts a statement at its white space. After a "=" that stands alone the rest is
// one word.
func (l line) words() []word {
	parts, starts := split(l.text, func(b byte) bool { return b == ' ' || b == '\t' })
	var words []word
	at := l.columns()
	for i, part := range parts {
		if part == "" {
			continue
		}
		words = append(words, word{part, l.number, at(starts[i])})
		if part == "=" {
			rest := l.text[starts[i]+1:]
			trimmed := strings.TrimLeft(rest, " \t")
			return append(words, word{trimmed, l.number, at(len(l.text) - len(trimmed))})
		}
	}
	return words
}

// columns tells the column of a byte of the line, of bytes that come one after another.
func (l line) columns() func(at int) int {
	column, counted := 1, 0
	return func(at int) int {
		column += utf8.RuneCountInString(l.text[counted:at])
		counted = at
		return column
	}
}

// keywords are the statements.
var keywords = []string{"start", "load", "push", "advance", "at", "expect", "refused"}

func unknownStatement(name string) (message, hint string) {
	if n, ok := nearest.Name(name, keywords); ok {
		return "there is no statement " + quote(name), "did you mean " + quote(n) + "?"
	}
	return "there is no statement " + quote(name), "statements are " + strings.Join(keywords, ", ") + "; the lines of a table are indented"
}

// quote is a text as it is shown in a message, cut where it is long.
func quote(text string) string {
	const limit = 60
	if utf8.RuneCountInString(text) > limit {
		text = string([]rune(text)[:limit]) + "…"
	}
	return `"` + text + `"`
}
