package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/forebay/forebay/registry/lineage"
)

// Style says what a line of a rendered plan is, for whoever colours it.
type Style string

// The styles.
const (
	Plain    Style = "plain"
	Heading  Style = "heading"
	Added    Style = "added"
	Modified Style = "modified"
	Removed  Style = "removed"
	Blocks   Style = "blocking"
	Warns    Style = "warning"
	Notes    Style = "notice"
)

// Line is one line of a rendered plan, without its line end.
type Line struct {
	Style  Style
	Indent int // in steps of two spaces
	Text   string
}

var (
	actionStyles   = map[Action]Style{Add: Added, Modify: Modified, Remove: Removed}
	actionSigns    = map[Action]string{Add: "+", Modify: "~", Remove: "-"}
	severityStyles = map[Severity]Style{Blocking: Blocks, Warning: Warns, Notice: Notes}
)

// Lines are the plan for people, line by line.
func (p *Plan) Lines() []Line {
	var ls []Line
	line := func(s Style, indent int, format string, args ...any) {
		ls = append(ls, Line{s, indent, fmt.Sprintf(format, args...)})
	}
	if p.Base == nil {
		line(Heading, 0, "Project %s: the first revision", p.Project)
	} else {
		line(Heading, 0, "Project %s: changes since revision %d (%s)", p.Project, p.Base.Number, p.Base.ID)
	}
	if p.Empty() {
		line(Plain, 0, "Nothing has changed.")
	}
	for _, ch := range p.Changes {
		s := ch.Summary()
		line(actionStyles[s.Action], 1, "%s %s%s", actionSigns[s.Action], s.Node, generationText(s))
		for _, d := range s.Fields {
			switch {
			case d.Before == "":
				line(Added, 3, "+ %s: %s", d.Field, oneLine(d.After))
			case d.After == "":
				line(Removed, 3, "- %s: %s", d.Field, oneLine(d.Before))
			default:
				line(Modified, 3, "~ %s: %s -> %s", d.Field, oneLine(d.Before), oneLine(d.After))
			}
		}
	}
	if len(p.Findings) > 0 {
		line(Heading, 0, "Findings")
		for _, f := range p.Findings {
			about := ""
			if f.Node != (lineage.Node{}) {
				about = " (" + f.Node.String() + ")"
			}
			line(severityStyles[f.Severity], 1, "%s %s%s: %s", f.Severity, f.Code, about, f.Message)
		}
	}
	if len(p.Backfills) > 0 {
		line(Heading, 0, "To backfill")
		for _, b := range p.Backfills {
			line(Plain, 1, "%s@%d", b.View, b.Generation)
		}
	}
	if len(p.Consumers) > 0 {
		line(Heading, 0, "Consumers affected")
		for _, c := range p.Consumers {
			through := make([]string, len(c.Through))
			for i, n := range c.Through {
				through[i] = n.String()
			}
			line(Plain, 1, "%s, through %s", c.Node, strings.Join(through, ", "))
		}
	}
	if !p.Empty() {
		line(Plain, 0, "%s", p.totals())
	}
	return ls
}

// oneLine is a value that may have line ends, quoted if it has.
func oneLine(s string) string {
	if strings.ContainsAny(s, "\r\n") {
		return strconv.Quote(s)
	}
	return s
}

func generationText(s Summary) string {
	switch {
	case s.Generation == s.Previous, s.Generation == 0:
		return ""
	case s.Previous == 0:
		return fmt.Sprintf(" (generation %d)", s.Generation)
	}
	return fmt.Sprintf(" (generation %d -> %d)", s.Previous, s.Generation)
}

// totals counts the changes and the findings in one sentence.
func (p *Plan) totals() string {
	actions, found := map[Action]int{}, map[Severity]int{}
	for _, ch := range p.Changes {
		actions[ch.Summary().Action]++
	}
	for _, f := range p.Findings {
		found[f.Severity]++
	}
	return fmt.Sprintf("%d to add, %d to modify, %d to remove; %d blocking, %d warnings, %d notices.",
		actions[Add], actions[Modify], actions[Remove], found[Blocking], found[Warning], found[Notice])
}

// WriteText writes the plan for people, without colours.
func (p *Plan) WriteText(w io.Writer) error {
	var b bytes.Buffer
	for _, l := range p.Lines() {
		b.WriteString(strings.Repeat("  ", l.Indent))
		b.WriteString(l.Text)
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// MarshalJSON writes the plan for programs. Lists are never null; members are
// only ever added.
func (p *Plan) MarshalJSON() ([]byte, error) {
	doc := struct {
		Project   string     `json:"project"`
		Base      string     `json:"base,omitempty"` // the revision's ID
		Changes   []Summary  `json:"changes"`
		Findings  []Finding  `json:"findings"`
		Backfills []Backfill `json:"backfills"`
		Consumers []Consumer `json:"consumers"`
		Blocking  bool       `json:"blocking"`
	}{
		Project: p.Project, Changes: []Summary{}, Findings: append([]Finding{}, p.Findings...),
		Backfills: append([]Backfill{}, p.Backfills...), Consumers: append([]Consumer{}, p.Consumers...), Blocking: p.Blocking(),
	}
	if p.Base != nil {
		doc.Base = p.Base.ID
	}
	for _, ch := range p.Changes {
		doc.Changes = append(doc.Changes, ch.Summary())
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // expressions are full of < and >
	err := enc.Encode(doc)
	return b.Bytes(), err
}
