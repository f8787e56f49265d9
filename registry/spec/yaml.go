package spec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/forebay/forebay/registry/nearest"
)

// maxFile is the size in bytes beyond which a file is refused: nobody writes so
// much by hand, and the parser keeps many times as much.
const maxFile = 4 << 20

// report collects diagnostics.
type report struct{ diagnostics Diagnostics }

func (r *report) add(at Position, code Code, hint, format string, args ...any) {
	r.diagnostics = append(r.diagnostics, Diagnostic{Code: code, Position: at, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// file is one YAML file.
type file struct {
	report *report
	name   string
	lines  []string
}

func (f *file) at(line, column int) Position {
	return Position{File: f.name, Line: max(1, line), Column: max(1, column)}
}

// parse reads a file's documents, leaving out empty ones. A syntax error is one
// diagnostic, and there are no documents then.
func parse(r *report, name string, content []byte) []item {
	f := &file{report: r, name: name}
	if len(content) > maxFile {
		r.add(f.at(1, 1), FileUnreadable, "split it", "the file is larger than %d MiB", maxFile>>20)
		return nil
	}
	if !utf8.Valid(content) {
		r.add(f.at(1, 1), YAMLSyntax, "", "the file is not UTF-8 text")
		return nil
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	f.lines = strings.Split(string(content), "\n")
	tree, err := parseBytes(content)
	if err != nil {
		var e yaml.Error
		if errors.As(err, &e) && e.GetToken() != nil && e.GetToken().Position != nil {
			p := e.GetToken().Position
			r.add(f.at(p.Line, p.Column), YAMLSyntax, "", "%s", e.GetMessage())
		} else {
			r.add(f.at(1, 1), YAMLSyntax, "", "%s", err)
		}
		return nil
	}
	var items []item
	for _, d := range tree.Docs {
		if d.Body == nil {
			continue
		}
		switch d.Body.Type() {
		case ast.NullType, ast.CommentType, ast.DirectiveType:
			continue
		}
		items = append(items, item{f, d.Body})
	}
	return items
}

// parseBytes is the parser's ParseBytes; what makes it panic is not YAML either.
func parseBytes(content []byte) (tree *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file cannot be parsed: %v", p)
		}
	}()
	// Duplicate keys are found here, all of them, and not by the parser, which stops at the first.
	return parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey())
}

// item is a YAML value and where it stands.
type item struct {
	file *file
	node ast.Node
}

func (i item) report(code Code, hint, format string, args ...any) {
	i.file.report.add(i.at(), code, hint, format, args...)
}

// at is the place of the value: of its first key if it is a mapping of lines.
func (i item) at() Position {
	node := i.node
	for {
		m, ok := node.(*ast.MappingNode)
		if !ok || m.IsFlowStyle || len(m.Values) == 0 {
			break
		}
		node = m.Values[0].Key
	}
	if v, ok := node.(*ast.MappingValueNode); ok {
		node = v.Key
	}
	tk := node.GetToken()
	if tk == nil || tk.Position == nil {
		return i.file.at(1, 1)
	}
	return i.file.at(tk.Position.Line, tk.Position.Column)
}

// kind is what sort of value it is, in words for messages.
func (i item) kind() string {
	switch i.node.Type() {
	case ast.NullType:
		return "nothing"
	case ast.BoolType:
		return "a bool"
	case ast.IntegerType:
		return "a whole number"
	case ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.StringType, ast.LiteralType:
		return "a text"
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	}
	return "something else"
}

// plain reports whether the value is of a sort that is read here, and says so if not.
func (i item) plain() bool {
	switch i.node.Type() {
	case ast.AnchorType, ast.AliasType:
		i.report(YAMLUnsupported, "write it out", "anchors and aliases are not read")
		return false
	case ast.TagType:
		i.report(YAMLUnsupported, "", "tags are not read")
		return false
	}
	return true
}

func (i item) wrong(want string) {
	if i.plain() {
		hint := ""
		if want == "a text" && i.scalar() {
			hint = "put it in quotes"
		}
		i.report(WrongType, hint, "want %s here, not %s", want, i.kind())
	}
}

// scalar reports whether the value is a single one that is there.
func (i item) scalar() bool {
	switch i.node.Type() {
	case ast.BoolType, ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType, ast.StringType, ast.LiteralType:
		return true
	}
	return false
}

// raw is the text of a scalar, whatever its type.
func (i item) raw() string {
	switch n := i.node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	return i.node.GetToken().Value
}

// text is a text of the repository and where it stands. Without a place it is
// not there.
type text struct {
	string
	item item
}

func (t text) given() bool  { return t.item.node != nil }
func (t text) at() Position { return t.item.at() }
func (t text) report(code Code, hint, format string, args ...any) {
	t.item.report(code, hint, format, args...)
}

// unknown reports that nothing has the name, which the text is or contains.
func (t text) unknown(what, name string, known []string) {
	t.report(UnknownReference, nearest.Hint(name, known), "there is no %s %q", what, name)
}

// inside is the place of the byte at offset of the text. It is exact where the
// text stands in the file as it is; else it is the text's start.
func (t text) inside(offset int) Position {
	at := t.at()
	tk := t.item.node.GetToken()
	before := t.string[:min(offset, len(t.string))]
	if l, ok := t.item.node.(*ast.LiteralNode); ok {
		return t.insideBlock(at, l, before)
	}
	line, ok := t.item.file.line(at.Line)
	if !ok {
		return at
	}
	start := at.Column - 1
	if tk.Type == token.DoubleQuoteType || tk.Type == token.SingleQuoteType {
		start++
	}
	if start <= len(line) && strings.HasPrefix(string(line[start:]), t.string) {
		at.Column = start + 1 + utf8.RuneCountInString(before)
	}
	return at
}

// insideBlock is inside for a text of lines after a | that lie in the file as they are.
func (t text) insideBlock(at Position, l *ast.LiteralNode, before string) Position {
	if l.Start.Type != token.LiteralType {
		return at // folded: its lines have been joined
	}
	nth := strings.Count(before, "\n")
	want := strings.Split(t.string, "\n")[nth]
	line, ok := t.item.file.line(at.Line + 1 + nth)
	if !ok || !strings.HasSuffix(string(line), want) {
		return at
	}
	indent := len(line) - utf8.RuneCountInString(want)
	return t.item.file.at(at.Line+1+nth, indent+1+utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]))
}

// line is the nth line of the file, from 1.
func (f *file) line(n int) ([]rune, bool) {
	if n < 1 || n > len(f.lines) {
		return nil, false
	}
	return []rune(f.lines[n-1]), true
}

// text reads a text; false if the value is none, which has been reported.
func (i item) text() (text, bool) {
	if i.node.Type() != ast.StringType && i.node.Type() != ast.LiteralType {
		i.wrong("a text")
		return text{}, false
	}
	return text{i.raw(), i}, true
}

// expression reads CEL: any scalar, since true and 1 are expressions too.
func (i item) expression() text {
	if !i.scalar() {
		i.wrong("an expression")
		return text{}
	}
	return text{i.raw(), i}
}

// list reads the elements of a list.
func (i item) list() []item {
	s, ok := i.node.(*ast.SequenceNode)
	if !ok {
		i.wrong("a list")
		return nil
	}
	items := make([]item, 0, len(s.Values))
	for _, v := range s.Values {
		items = append(items, item{i.file, v})
	}
	return items
}

// texts reads a list of texts.
func (i item) texts() []text {
	var ts []text
	for _, e := range i.list() {
		if t, ok := e.text(); ok {
			ts = append(ts, t)
		}
	}
	return ts
}

// entry is a key of a mapping and its value.
type entry struct {
	key   text
	value item
}

// entries reads a mapping whose keys the file's author chooses.
func (i item) entries() []entry {
	var values []*ast.MappingValueNode
	switch n := i.node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		i.wrong("a mapping")
		return nil
	}
	seen := map[string]Position{}
	entries := make([]entry, 0, len(values))
	for _, v := range values {
		key := item{i.file, v.Key}
		if !key.plain() {
			continue
		}
		if v.Key.Type() == ast.MergeKeyType {
			key.report(YAMLUnsupported, "write it out", "merge keys are not read")
			continue
		}
		if !key.scalar() {
			key.report(YAMLUnsupported, "", "a key here is a simple word")
			continue
		}
		k := text{key.raw(), key}
		if first, twice := seen[k.string]; twice {
			k.report(DuplicateKey, "", "the key %q is already given in line %d", k.string, first.Line)
			continue
		}
		seen[k.string] = k.at()
		entries = append(entries, entry{k, item{i.file, v.Value}})
	}
	return entries
}

// object is a mapping whose keys are Forebay's. Each key is asked for once;
// finish reports those that nobody asked for.
type object struct {
	item    item
	what    string // for messages: "a source"
	entries []entry
	asked   []string
	taken   map[string]bool
}

// object reads a mapping; false if the value is none.
func (i item) object(what string) (*object, bool) {
	switch i.node.Type() {
	case ast.MappingType, ast.MappingValueType:
		return &object{item: i, what: what, entries: i.entries(), taken: map[string]bool{}}, true
	}
	i.wrong("a mapping")
	return nil, false
}

// get finds the value of a key.
func (o *object) get(key string) (item, bool) {
	o.asked = append(o.asked, key)
	for _, e := range o.entries {
		if e.key.string == key {
			o.taken[key] = true
			return e.value, true
		}
	}
	return item{}, false
}

// key is the place of a key that is there.
func (o *object) key(key string) text {
	for _, e := range o.entries {
		if e.key.string == key {
			return e.key
		}
	}
	return text{string: key, item: o.item}
}

// need is get for a key that must be there.
func (o *object) need(key string) (item, bool) {
	i, ok := o.get(key)
	if !ok {
		o.item.report(MissingKey, "", "%s needs the key %q", o.what, key)
	}
	return i, ok
}

// text finds the text of a key, which may be missing.
func (o *object) text(key string) text {
	if i, ok := o.get(key); ok {
		t, _ := i.text()
		return t
	}
	return text{}
}

// needText finds the text of a key that must be there and not be empty.
func (o *object) needText(key string) text {
	i, ok := o.need(key)
	if !ok {
		return text{}
	}
	t, ok := i.text()
	if ok && t.string == "" {
		t.report(BadValue, "", "%q must not be empty", key)
		return text{}
	}
	return t
}

// texts finds the list of texts of a key, which may be missing.
func (o *object) texts(key string) []text {
	if i, ok := o.get(key); ok {
		return i.texts()
	}
	return nil
}

// choice finds the text of a key that must be one of a few; def if it is missing.
func (o *object) choice(key, def string, of ...string) string {
	i, ok := o.get(key)
	if !ok {
		return def
	}
	t, ok := i.text()
	if !ok {
		return def
	}
	for _, c := range of {
		if t.string == c {
			return c
		}
	}
	hint := nearest.Hint(t.string, of)
	if hint == "" {
		hint = "one of " + strings.Join(of, ", ")
	}
	t.report(BadValue, hint, "%q is no value of %q", t.string, key)
	return def
}

// finish reports the keys that nobody asked for.
func (o *object) finish() {
	for _, e := range o.entries {
		if o.taken[e.key.string] {
			continue
		}
		hint := nearest.Hint(e.key.string, o.asked)
		if hint == "" {
			hint = "its keys are " + strings.Join(o.asked, ", ")
		}
		e.key.report(UnknownKey, hint, "%s has no key %q", o.what, e.key.string)
	}
}
