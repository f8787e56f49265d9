package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// terminal reports whether w is a terminal that a person looks at.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// style is a colour or weight of text, as the number of its ANSI escape.
type style string

const (
	bold   style = "1"
	faint  style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// paint styles text that goes to w: only on a terminal, and not where NO_COLOR
// (https://no-color.org) is set.
func (c *cli) paint(w io.Writer, s style, text string) string {
	if text == "" || !terminal(w) || c.env("NO_COLOR") != "" || c.env("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// printf prints to stdout; with --json it prints nothing, as the document is all there is.
func (c *cli) printf(format string, a ...any) {
	if !c.json {
		fmt.Fprintf(c.stdout, format, a...)
	}
}

// note prints a line for people to stderr: something they should know that is not the result.
func (c *cli) note(format string, a ...any) {
	fmt.Fprintf(c.stderr, "%s %s\n", c.paint(c.stderr, yellow, "note:"), fmt.Sprintf(format, a...))
}

// document prints the JSON document of a command. It is called once.
func (c *cli) document(v any) error {
	c.printed = true
	e := json.NewEncoder(c.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// table collects rows of cells and prints them in aligned columns.
type table struct {
	head  []string
	right []bool // columns of numbers
	rows  [][]cell
}

// cell is a text and its style.
type cell struct {
	text  string
	style style
}

// newTable starts a table. A heading that starts with ">" is a column of
// numbers, aligned at the right.
func newTable(head ...string) *table {
	t := &table{head: make([]string, len(head)), right: make([]bool, len(head))}
	for i, h := range head {
		t.head[i], t.right[i] = strings.CutPrefix(h, ">")
	}
	return t
}

// add appends a row of texts, numbers, instants (time.Time, zero for none) and cells.
func (t *table) add(values ...any) {
	row := make([]cell, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case cell:
			row[i] = v
		case string:
			row[i].text = v
		case int:
			row[i].text = count(int64(v))
		case int64:
			row[i].text = count(v)
		case time.Time:
			if !v.IsZero() {
				row[i].text = v.UTC().Format(time.RFC3339)
			}
		default:
			row[i].text = fmt.Sprint(v)
		}
		if row[i].text == "" && t.head[i] != "" {
			row[i].text = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// print writes the table to stdout, with its headings.
func (c *cli) print(t *table) {
	if c.json {
		return
	}
	width := make([]int, len(t.head))
	for i, h := range t.head {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell.text))
		}
	}
	line := func(row []cell) {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell.text))
			text := cell.text
			if cell.style != "" {
				text = c.paint(c.stdout, cell.style, text)
			}
			if t.right[i] {
				text, pad = pad+text, ""
			}
			b.WriteString(text)
			if i < len(row)-1 {
				b.WriteString(pad + "  ")
			}
		}
		fmt.Fprintln(c.stdout, strings.TrimRight(b.String(), " "))
	}
	head := make([]cell, len(t.head))
	for i, h := range t.head {
		head[i] = cell{text: h, style: bold}
	}
	line(head)
	for _, row := range t.rows {
		line(row)
	}
}

// count is a number with its thousands parted: 1,234,567.
func count(n int64) string {
	if n < 0 {
		return "-" + count(-n)
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is a count of things: "1 row", "2,000 rows".
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if strings.HasSuffix(thing, "y") && !strings.HasSuffix(thing, "key") {
		return count(n) + " " + strings.TrimSuffix(thing, "y") + "ies"
	}
	return count(n) + " " + thing + "s"
}

// size is a number of bytes: 1.4 MB.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, prefixes := float64(n)/unit, "kMGTP"
	for f >= unit && len(prefixes) > 1 {
		f, prefixes = f/unit, prefixes[1:]
	}
	return fmt.Sprintf("%.1f %cB", f, prefixes[0])
}

// span is a length of time as people say it: 850ms, 3.2s, 4m10s, 2d.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	case d < 730*24*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
	return fmt.Sprintf("%.0fy", d.Hours()/24/365.25)
}

// rate is things per second.
func rate(n int64, d time.Duration) string {
	if d <= 0 || n == 0 {
		return "-"
	}
	return count(int64(float64(n)/d.Seconds())) + "/s"
}

// seconds is a length of time from its seconds.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
