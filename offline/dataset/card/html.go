package card

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
)

//go:embed card.html
var page string

// WriteJSON writes the card as JSON, indented.
func (c *Card) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(c)
}

// WriteHTML writes the card as one page that needs nothing beside it: no scripts, fonts or pictures of others.
func (c *Card) WriteHTML(w io.Writer) error {
	t, err := template.New("card").Funcs(template.FuncMap{
		"count": grouped, "brief": brief, "percent": percent, "number": number, "bars": bars, "balance": func(b *Balance) []bar { return shares(b.Classes, c.Rows-b.Nulls) },
		"top": func(col Column) []bar { return shares(col.Top, c.Rows-col.Nulls) },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("card: %w", err)
	}
	return t.Execute(w, c)
}

// grouped is a number with its thousands apart.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteRune('\u202f')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func percent(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + "%"
}

func number(f *float64) string {
	if f == nil {
		return ""
	}
	return strconv.FormatFloat(*f, 'g', 6, 64)
}

// brief is a bound as it is shown: numbers of six digits, instants to the second.
func brief(s string) string {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if f == math.Trunc(f) && math.Abs(f) < 1e15 {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
		return number(&f)
	}
	if at, _, ok := strings.Cut(s, "."); ok && strings.HasSuffix(s, "Z") {
		return at + "Z"
	}
	return s
}

// bar is a bar of a chart, in units of the drawing.
type bar struct {
	X, Y, W, H float64
	Label      string
	Text       string
	Share      string
}

const chartW, chartH = 240.0, 48.0

// bars draws a histogram.
func bars(c Column) []bar {
	most := int64(1)
	for _, b := range c.Histogram {
		most = max(most, b.Count)
	}
	out := make([]bar, len(c.Histogram))
	w := chartW / float64(max(1, len(out)))
	for i, b := range c.Histogram {
		h := chartH * float64(b.Count) / float64(most)
		if b.Count > 0 {
			h = max(h, 1)
		}
		from, to := strconv.FormatFloat(b.From, 'g', 6, 64), strconv.FormatFloat(b.To, 'g', 6, 64)
		if strings.HasPrefix(c.Type, "timestamp") {
			from, to = instantText(b.From), instantText(b.To)
		}
		out[i] = bar{X: float64(i) * w, Y: chartH - h, W: max(w-1, 0.5), H: h, Label: fmt.Sprintf("%s to %s: %s", from, to, grouped(b.Count))}
	}
	return out
}

// shares draws counts as parts of a whole.
func shares(counts []Count, whole int64) []bar {
	out := make([]bar, len(counts))
	for i, k := range counts {
		out[i] = bar{Label: k.Value, Text: grouped(k.Count), Share: percent(k.Count, whole)}
		if whole > 0 {
			out[i].W = 100 * float64(k.Count) / float64(whole)
		}
	}
	return out
}
