package pitscript

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/nearest"
	"github.com/forebay/forebay/registry/selection"
)

// Program is a script that makes sense for a project. It is immutable: any number of
// engines may run it at a time.
type Program struct {
	File     string
	calendar calendar
	start    int64
	steps    []step
	lookups  int
}

// Expectations is how many values, counts and errors the script expects.
func (p *Program) Expectations() int { return p.lookups }

// Errors is how many of the expectations are of errors.
func (p *Program) Errors() (n int) {
	for _, s := range p.steps {
		switch s := s.(type) {
		case *mistakenStep:
			n++
		case *pushStep:
			if s.fails != "" {
				n++
			}
		case *expectStep:
			if s.fails != "" {
				n++
			}
		}
	}
	return n
}

// step is one thing to do, at a known instant.
type step interface{ run(*run) error }

// deliverStep lets events arrive.
type deliverStep struct {
	at     int64
	events []Events
}

// pushStep pushes rows.
type pushStep struct {
	statement word
	clock     int64
	source    *registry.Source
	rows      *feature.Batch
	fails     string
}

// expectStep looks features up.
type expectStep struct {
	statement word
	selection *selection.Selection
	service   string
	keys      *feature.Batch // then the request's fields
	rows      []expectRow
	clock     int64
	at        int64
	asOf      *int64
	knownAt   *int64
	fails     string
}

// expectRow is what is expected for one entity.
type expectRow struct {
	label    string
	expected []expectCell
}

type expectCell struct {
	word
	output int
	Expected
}

// refusedStep counts refusals.
type refusedStep struct {
	statement word
	clock     int64
	refusal   Refusal
	count     int64
}

// compiler makes steps of statements. The instants of a script are all written in
// it, so that what has arrived when is known beforehand.
type compiler struct {
	parser
	project  *registry.Project
	calendar calendar
	program  *Program
	clock    int64
	at       int64
	asOf     *int64
	knownAt  *int64
	pending  []arrival // sorted by when they arrive
	loaded   int
	expects  bool // there is something that may fail
}

// arrival is an event that has not arrived yet.
type arrival struct {
	at         int64
	ingestedAt int64
	sequence   int
	source     *registry.Source
	rows       *feature.Batch
	row        int
	ahead      bool // it says that it is of a later instant
}

// Compile reads a script for a project. The error is its Mistakes.
func Compile(file string, text []byte, project *registry.Project) (*Program, error) {
	c := &compiler{parser: parser{file: file}, project: project, calendar: calendar{defaultStart}}
	c.parse(string(text))
	c.program = &Program{File: file}
	for i, s := range c.statements {
		if i == 0 {
			c.start(s)
		}
		c.statement(i, s)
	}
	if !c.expects && len(c.mistakes) == 0 {
		c.mistake(word{line: 1, column: 1}, "the script expects nothing", "add a line such as: at 10:30 expect view:feature key=value = 1")
	}
	if len(c.mistakes) > 0 {
		return nil, c.mistakes.sorted()
	}
	return c.program, nil
}

// start sets the clock by the first statement, which may be start.
func (c *compiler) start(s statement) {
	words := s.words()
	if words[0].text == "start" && c.arguments(words, 1, "start INSTANT") {
		at, err := calendar{defaultStart}.instant(words[1].text)
		if err != nil {
			c.mistake(words[1], err.Error(), "")
		} else {
			c.calendar.start = at
		}
	}
	c.program.calendar, c.program.start = c.calendar, c.calendar.start
	c.clock, c.at = c.calendar.start, c.calendar.start
}

// arguments reports whether a statement has the number of words that its form has.
func (c *compiler) arguments(words []word, n int, form string) bool {
	switch {
	case len(words)-1 < n:
		c.mistake(words[0], words[0].text+" lacks something", "its form is: "+form)
		return false
	case len(words)-1 > n:
		c.mistake(words[n+1], "unexpected "+quote(words[n+1].text), "the form is: "+form)
		return false
	}
	return true
}

func (c *compiler) statement(i int, s statement) {
	words := s.words()
	tabled := false
	switch words[0].text {
	case "start":
		if i > 0 {
			c.mistake(words[0], "start comes after another statement", "it sets the clock and the day, so it comes first")
		}
	case "load":
		tabled = true
		c.load(words, s.table)
	case "push":
		tabled = true
		c.push(words, s.table)
	case "advance":
		c.advance(words)
	case "at":
		words = c.moveTo(words)
		if len(words) > 0 {
			tabled = c.expect(words, s.table)
		}
	case "expect":
		tabled = c.expect(words, s.table)
	case "refused":
		c.refused(words)
	default:
		message, hint := unknownStatement(words[0].text)
		c.mistake(words[0], message, hint)
		return
	}
	if !tabled && len(s.table) > 0 {
		c.mistake(s.table[0].cells[0], "this statement has no table", "statements begin at the left")
	}
}

func (c *compiler) source(name word) *registry.Source {
	s := c.project.Source(name.text)
	if s == nil {
		var names []string
		for _, s := range c.project.Sources {
			names = append(names, s.Name)
		}
		c.mistake(name, "there is no source "+quote(name.text), suggestion(name.text, names))
	}
	return s
}

// suggestion is what somebody may have meant, or what there is.
func suggestion(name string, names []string) string {
	if hint := nearest.Hint(name, names); hint != "" || len(names) == 0 {
		return hint
	}
	return "there is: " + strings.Join(names, ", ")
}

const ingestedAt = "ingested_at"

func (c *compiler) load(words []word, table []tableRow) {
	if !c.arguments(words, 1, "load SOURCE, and a table below it") {
		return
	}
	src := c.source(words[1])
	if src == nil {
		return
	}
	rows, known, ok := c.sourceRows(words[0], src, table, true)
	if !ok {
		return
	}
	times := rows.Columns[src.Column(src.Timestamp)]
	for i := range rows.Rows {
		a := arrival{at: c.clock, sequence: c.loaded, source: src, rows: rows, row: i}
		c.loaded++
		switch {
		case known[i] != nil:
			a.ingestedAt, a.at = *known[i], max(c.clock, *known[i])
		case !times.IsNull(i):
			a.at = max(c.clock, times.Int64s()[i])
			a.ingestedAt = a.at
		default:
			a.ingestedAt = a.at
		}
		a.ahead = !times.IsNull(i) && times.Int64s()[i] > a.at
		c.pending = append(c.pending, a)
	}
	slices.SortFunc(c.pending, func(a, b arrival) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sequence, b.sequence)) })
	c.deliver()
}

// deliver lets everything arrive that has by now, in the order in which it did.
func (c *compiler) deliver() {
	n := 0
	for n < len(c.pending) && c.pending[n].at <= c.clock {
		n++
	}
	due := c.pending[:n]
	for len(due) > 0 {
		// An event of a later instant is judged by the clock of its arrival; for the others any later one does.
		last := slices.IndexFunc(due, func(a arrival) bool { return a.ahead })
		d := &deliverStep{at: c.clock}
		if last < 0 {
			last = len(due) - 1
		} else {
			d.at = due[last].at
		}
		for _, a := range due[:last+1] {
			if len(d.events) == 0 || d.events[len(d.events)-1].Source != a.source {
				d.events = append(d.events, Events{a.source, feature.NewBatch(a.source.Fields(), 0)})
			}
			rows := d.events[len(d.events)-1].Rows
			rows.AppendRow(a.rows, a.row)
			rows.Versions = append(rows.Versions, feature.Version{IngestedAt: a.ingestedAt})
		}
		c.program.steps = append(c.program.steps, d)
		due = due[last+1:]
	}
	c.pending = c.pending[n:]
}

// sourceRows reads a table of a source's rows, and when each became known where the table says so.
func (c *compiler) sourceRows(statement word, src *registry.Source, table []tableRow, arrivals bool) (rows *feature.Batch, known []*int64, ok bool) {
	if len(table) < 2 {
		c.mistake(statement, statement.text+" has no rows", "below it come, indented, a line with the names of columns, and rows")
		return nil, nil, false
	}
	before := len(c.mistakes)
	columns := make([]int, len(table[0].cells))
	seen := map[string]bool{}
	for i, h := range table[0].cells {
		columns[i] = src.Column(h.text)
		arrival := arrivals && h.text == ingestedAt && columns[i] < 0
		switch {
		case seen[h.text]:
			c.mistake(h, "column "+quote(h.text)+" is there twice", "")
		case columns[i] < 0 && !arrival:
			names := []string{ingestedAt}
			for _, col := range src.Columns {
				names = append(names, col.Name)
			}
			c.mistake(h, fmt.Sprintf("source %s has no column %s", src.Name, quote(h.text)), suggestion(h.text, names))
		}
		seen[h.text] = true
	}
	if !seen[src.Timestamp] {
		c.mistake(table[0].cells[0], fmt.Sprintf("the column %s is missing", quote(src.Timestamp)), "it is the event time of source "+src.Name)
	}
	if len(c.mistakes) > before {
		return nil, nil, false
	}
	rows = feature.NewBatch(src.Fields(), len(table)-1)
	for _, r := range table[1:] {
		if !c.width(r, table[0]) {
			continue
		}
		values := make([]feature.Value, len(src.Columns))
		var at *int64
		for i, cell := range r.cells {
			if columns[i] >= 0 {
				values[columns[i]] = c.value(cell, src.Columns[columns[i]].Type)
			} else if v := c.value(cell, feature.TypeTimestamp); !v.IsNull() {
				t := v.Int64()
				at = &t
			}
		}
		if created := src.Column(src.Created); at == nil && src.Created != "" && !values[created].IsNull() {
			t := values[created].Int64()
			at = &t
		}
		for i, v := range values {
			rows.Columns[i].Append(v)
		}
		rows.Rows++
		known = append(known, at)
	}
	return rows, known, len(c.mistakes) == before
}

// width reports whether a row has as many cells as the table's first line.
func (c *compiler) width(r, head tableRow) bool {
	if len(r.cells) == len(head.cells) {
		return true
	}
	c.mistake(r.cells[0], fmt.Sprintf("the row has %d cells, and the table %d columns", len(r.cells), len(head.cells)), "an empty cell is null; text with a comma is quoted")
	return false
}

func (c *compiler) value(cell word, t feature.Type) feature.Value {
	v, err := c.calendar.value(t, cell.text)
	if err != nil {
		c.mistake(cell, err.Error(), "")
		return feature.Value{}
	}
	return v
}

func (c *compiler) push(words []word, table []tableRow) {
	words, fails, ok := c.fails(words)
	if !ok || !c.arguments(words, 1, `push SOURCE [fails "TEXT"], and a table below it`) {
		return
	}
	src := c.source(words[1])
	if src == nil {
		return
	}
	rows, _, ok := c.sourceRows(words[0], src, table, false)
	if !ok {
		return
	}
	if fails != "" {
		c.expects = true
		c.program.lookups++
	}
	c.program.steps = append(c.program.steps, &pushStep{words[0], c.clock, src, rows, fails})
}

// fails takes `fails "text"` off the end of a statement.
func (c *compiler) fails(words []word) (rest []word, text string, ok bool) {
	i := slices.IndexFunc(words, func(w word) bool { return w.text == "fails" })
	if i < 0 {
		return words, "", true
	}
	if i != len(words)-2 {
		c.mistake(words[i], "fails wants one text", `such as: fails "part of the message"`)
		return words, "", false
	}
	text = words[i+1].text
	if strings.HasPrefix(text, `"`) {
		v, err := c.calendar.value(feature.TypeString, text)
		if err != nil {
			c.mistake(words[i+1], err.Error(), "")
			return words, "", false
		}
		text = v.Str()
	}
	if text == "" {
		c.mistake(words[i+1], "any message has an empty text", "write a part of the message that is expected")
		return words, "", false
	}
	return words[:i], text, true
}

func (c *compiler) advance(words []word) {
	if !c.arguments(words, 1, "advance DURATION") {
		return
	}
	d, err := duration(words[1].text)
	if err != nil {
		c.mistake(words[1], err.Error(), "")
		return
	}
	if c.clock+d > feature.MaxTimestamp {
		c.mistake(words[1], "the clock would pass the year 9999", "")
		return
	}
	c.setClock(c.clock + d)
}

func (c *compiler) setClock(at int64) {
	c.clock, c.at, c.asOf, c.knownAt = at, at, nil, nil
	c.deliver()
}

// moveTo reads at, and returns the words after it.
func (c *compiler) moveTo(words []word) []word {
	const form = "at INSTANT [known_at INSTANT] [as_of INSTANT] [expect …]"
	statement := words[0]
	if len(words) < 2 {
		c.mistake(statement, "at lacks an instant", "its form is: "+form)
		return nil
	}
	at, ok := c.instant(words[1])
	var knownAt, asOf *int64
	words, place := words[2:], words[1]
	for len(words) > 0 && words[0].text != "expect" {
		option := words[0]
		if option.text != "known_at" && option.text != "as_of" {
			c.mistake(option, "unexpected "+quote(option.text), "the form is: "+form)
			return nil
		}
		if len(words) < 2 {
			c.mistake(option, option.text+" lacks an instant", "the form is: "+form)
			return nil
		}
		t, good := c.clock, true
		if option.text != "known_at" || words[1].text != "now" {
			t, good = c.instant(words[1])
		}
		switch {
		case !good:
			ok = false
		case option.text == "as_of" && t <= at:
			c.mistake(words[1], "as_of is not later than the instant before it", "it is the event time that a lookup answers for where that is ahead of the clock")
			ok = false
		case option.text == "as_of":
			asOf = &t
		case t > c.clock:
			c.mistake(words[1], fmt.Sprintf("known_at is later than the clock, which is at %s", c.calendar.show(c.clock)), "move the clock first: at "+words[1].text)
			ok = false
		default:
			knownAt = &t
		}
		words = words[2:]
	}
	switch {
	case !ok:
	case knownAt != nil && asOf != nil:
		c.mistake(statement, "known_at and as_of go not together", "known_at asks training data, which has no clock")
	case knownAt != nil:
		c.at, c.asOf, c.knownAt = at, nil, knownAt
	case at < c.clock:
		c.mistake(place, fmt.Sprintf("the clock is at %s and does not go back", c.calendar.show(c.clock)),
			fmt.Sprintf("training data of an earlier instant is: at %s known_at now", place.text))
	default:
		c.setClock(at)
		c.asOf = asOf
	}
	return words
}

func (c *compiler) instant(w word) (int64, bool) {
	at, err := c.calendar.instant(w.text)
	if err != nil {
		c.mistake(w, err.Error(), "")
		return 0, false
	}
	return at, true
}

func (c *compiler) refused(words []word) {
	const form = "refused SOURCE REASON = COUNT"
	if !c.arguments(words, 4, form) {
		return
	}
	reasons := []string{AheadOfClock, BadTimestamp, NullKey}
	src := c.source(words[1])
	if !slices.Contains(reasons, words[2].text) {
		c.mistake(words[2], "there is no reason "+quote(words[2].text), suggestion(words[2].text, reasons))
		return
	}
	n, err := strconv.ParseInt(words[4].text, 10, 64)
	if words[3].text != "=" || err != nil || n < 0 {
		c.mistake(words[3], "a count is expected", "the form is: "+form)
		return
	}
	if src == nil {
		return
	}
	c.expects = true
	c.program.lookups++
	c.program.steps = append(c.program.steps, &refusedStep{words[0], c.clock, Refusal{src.Name, words[2].text}, n})
}

// resolve finds what features mean. A script runs on the definitions as they are written, so
// every view has one generation.
func (c *compiler) resolve(req selection.Request) (*selection.Selection, error) {
	return selection.Resolve(context.Background(), c.project, req, func(_ context.Context, view string, number int) (registry.ViewGeneration, error) {
		v := c.project.View(view)
		if v == nil || number > 1 {
			return registry.ViewGeneration{}, fmt.Errorf("view %q: %w", view, registry.ErrNoRevision)
		}
		return registry.ViewGeneration{Project: c.project, View: v, Number: 1}, nil
	})
}
