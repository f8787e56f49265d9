package pitscript

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// expect compiles an expectation, and reports whether its table, if any, was its own.
func (c *compiler) expect(words []word, table []tableRow) (tabled bool) {
	const form = "expect service NAME | VIEW | VIEW:FEATURE, then KEY=VALUE … = EXPECTED, or a table below it"
	statement := words[0]
	words, fails, ok := c.fails(words)
	if !ok {
		return true
	}
	if len(words) < 2 {
		c.mistake(statement, "expect lacks features", "the form is: "+form)
		return true
	}
	var req selection.Request
	target := words[1]
	if words[1].text == "service" {
		if len(words) < 3 {
			c.mistake(words[1], "expect service lacks a name", "the form is: "+form)
			return true
		}
		target, req.Service = words[2], words[2].text
		words = words[3:]
	} else {
		req.Features = strings.Split(words[1].text, ",")
		words = words[2:]
	}
	s := &expectStep{statement: statement, service: req.Service, clock: c.clock, at: c.at, asOf: c.asOf, knownAt: c.knownAt, fails: fails}
	sel, err := c.resolve(req)
	if err != nil {
		c.failed(s, target, err.Error(), "")
		return true
	}
	s.selection = sel
	pairs, expected, ok := c.pairs(words)
	if !ok {
		return true
	}
	inputs := s.inputs()
	s.keys = feature.NewBatch(inputs, 1)
	switch {
	case fails != "":
		if len(table) > 0 {
			return false
		}
		c.inline(s, target, pairs, nil)
	case expected != nil:
		if len(table) > 0 {
			return false
		}
		c.inline(s, target, pairs, expected)
	case len(table) < 2:
		c.mistake(statement, "expect expects nothing", "write = and a value, or a table below it")
		return true
	default:
		c.table(s, pairs, table)
	}
	if len(s.rows) > 0 { // else there was a mistake, which the script may expect
		c.add(s)
	}
	return true
}

func (c *compiler) add(s *expectStep) {
	c.expects = true
	c.program.lookups += s.values()
	if s.fails != "" {
		c.program.lookups++
	}
	c.program.steps = append(c.program.steps, s)
}

// values is how many values are expected.
func (s *expectStep) values() (n int) {
	for _, r := range s.rows {
		for _, cell := range r.expected {
			if !cell.Any {
				n++
			}
		}
	}
	return n
}

// failed notes a mistake in what is asked for, unless the script expects it.
func (c *compiler) failed(s *expectStep, at word, message, hint string) {
	if s.fails == "" {
		c.mistake(at, message, hint)
		return
	}
	c.expects = true
	c.program.lookups++
	c.program.steps = append(c.program.steps, &mistakenStep{s.statement, message, s.fails})
}

// mistakenStep is an expectation whose mistake the script expects.
type mistakenStep struct {
	statement      word
	message, fails string
}

// inputs are what a lookup gives: keys, then request fields that are not keys.
func (s *expectStep) inputs() []feature.Field {
	inputs := slices.Clone(s.selection.Keys)
	for _, f := range s.selection.Request {
		if !slices.Contains(inputs, f) {
			inputs = append(inputs, f)
		}
	}
	return inputs
}

// pair is name=value.
type pair struct {
	word
	name, value string
}

// pairs reads the words after the features: name=value, then "=" and what is expected.
func (c *compiler) pairs(words []word) (pairs []pair, expected *word, ok bool) {
	ok = true
	for i, w := range words {
		if w.text == "=" {
			if i == len(words)-1 || words[i+1].text == "" {
				c.mistake(w, "nothing is expected after =", "an expected null is written null")
				return nil, nil, false
			}
			return pairs, &words[i+1], ok
		}
		name, value, is := strings.Cut(w.text, "=")
		if !is || name == "" {
			c.mistake(w, "unexpected "+quote(w.text), "keys are given as name=value, and what is expected after a = that stands alone")
			ok = false
			continue
		}
		pairs = append(pairs, pair{w, name, value})
	}
	return pairs, nil, ok
}

// inline compiles one feature of one entity on the statement's own line.
func (c *compiler) inline(s *expectStep, target word, pairs []pair, expected *word) {
	values, ok := c.given(s, target, pairs, nil)
	if !ok {
		return
	}
	row := expectRow{label: label(s.keys.Fields(), values)}
	appendValues(s.keys, values)
	if expected != nil {
		if len(s.selection.Outputs) != 1 {
			c.mistake(*expected, fmt.Sprintf("one value is expected of %d features", len(s.selection.Outputs)), "name one feature as view:feature, or write a table")
			return
		}
		row.expected = c.cell(row.expected, *expected, s.selection.Outputs[0].Type, 0)
	}
	s.rows = append(s.rows, row)
}

// given are the values of a lookup's inputs, from pairs and from a row of a table.
func (c *compiler) given(s *expectStep, target word, pairs []pair, cells map[string]word) (values []feature.Value, ok bool) {
	inputs := s.keys.Fields()
	values = make([]feature.Value, len(inputs))
	var missing []string
	ok = true
	for _, p := range pairs {
		if !slices.ContainsFunc(inputs, func(f feature.Field) bool { return f.Name == p.name }) {
			c.mistake(p.word, fmt.Sprintf("%s is neither a key nor a request field of these features", quote(p.name)), suggestion(p.name, names(inputs)))
			ok = false
		}
	}
	for i, f := range inputs {
		at := slices.IndexFunc(pairs, func(p pair) bool { return p.name == f.Name })
		cell, there := cells[f.Name]
		if at >= 0 {
			cell, there = pairs[at].word, true
			cell.text = pairs[at].value
		}
		if !there {
			missing = append(missing, f.Name)
			continue
		}
		v, err := c.calendar.value(f.Type, cell.text)
		if err != nil {
			c.mistake(cell, f.Name+": "+err.Error(), "")
			ok = false
		}
		values[i] = v
	}
	if len(missing) > 0 && ok {
		c.failed(s, target, "missing "+strings.Join(missing, ", "), "keys and request fields are given as name=value, or as columns of the table")
		return nil, false
	}
	return values, ok
}

func names(fields []feature.Field) []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return all
}

func appendValues(b *feature.Batch, values []feature.Value) {
	for i, v := range values {
		b.Columns[i].Append(v)
	}
	b.Rows++
}

// label says of which entity a value is.
func label(fields []feature.Field, values []feature.Value) string {
	var b strings.Builder
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(' ')
		}
		text := values[i].String()
		if values[i].Kind() == feature.String && (text == "" || text == "null" || strings.ContainsAny(text, " \t\"#,=")) {
			text = string(feature.AppendStringJSON(nil, text))
		}
		b.WriteString(f.Name + "=" + text)
	}
	return b.String()
}

func (c *compiler) cell(to []expectCell, w word, t feature.Type, output int) []expectCell {
	e, err := c.calendar.expected(t, w.text)
	if err != nil {
		c.mistake(w, err.Error(), "")
		return to
	}
	return append(to, expectCell{w, output, e})
}

// table compiles the table of an expectation: columns are inputs and outputs.
func (c *compiler) table(s *expectStep, pairs []pair, table []tableRow) {
	head := table[0]
	inputs, outputs := s.keys.Fields(), s.selection.Outputs
	column := make([]int, len(head.cells)) // of outputs; -1 for an input
	all := names(inputs)
	for _, o := range outputs {
		all = append(all, o.Name)
	}
	before := len(c.mistakes)
	seen := map[string]bool{}
	expects := false
	for i, h := range head.cells {
		column[i] = -1
		input := slices.ContainsFunc(inputs, func(f feature.Field) bool { return f.Name == h.text })
		if !input {
			column[i] = slices.IndexFunc(outputs, func(o selection.Output) bool { return o.Name == h.text })
			expects = expects || column[i] >= 0
		}
		switch {
		case seen[h.text]:
			c.mistake(h, "column "+quote(h.text)+" is there twice", "")
		case !input && column[i] < 0:
			c.mistake(h, quote(h.text)+" is neither a key, a request field nor a feature that is asked for", suggestion(h.text, all))
		case input && slices.ContainsFunc(pairs, func(p pair) bool { return p.name == h.text }):
			c.mistake(h, quote(h.text)+" is given above the table already", "")
		}
		seen[h.text] = true
	}
	if len(c.mistakes) > before {
		return
	}
	if !expects {
		c.mistake(head.cells[0], "the table has no feature", "its columns are keys, then features: "+strings.Join(all, ", "))
		return
	}
	for _, r := range table[1:] {
		if !c.width(r, head) {
			continue
		}
		cells := map[string]word{}
		for i, h := range head.cells {
			cells[h.text] = r.cells[i]
		}
		values, ok := c.given(s, head.cells[0], pairs, cells)
		if !ok {
			return
		}
		row := expectRow{label: label(inputs, values)}
		for i, w := range r.cells {
			if column[i] >= 0 {
				row.expected = c.cell(row.expected, w, outputs[column[i]].Type, column[i])
			}
		}
		appendValues(s.keys, values)
		s.rows = append(s.rows, row)
	}
}
