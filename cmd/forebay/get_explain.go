package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/app"
)

// getExplained prints where each value of an entity comes from.
func (c *cli) getExplained(ctx context.Context, a *app.App, o app.GetOptions) error {
	x, err := a.Explain(ctx, o)
	if err != nil {
		return err
	}
	if c.json {
		return c.document(x)
	}
	for i := range x.Features {
		c.explained(&x.Features[i], x.Instant, "")
	}
	return nil
}

// explained prints a value, where it comes from, and below it what it was computed from.
func (c *cli) explained(f *api.ExplainedFeature, instant, indent string) {
	if f.Request {
		c.printf("%s%s  %s  a field of the request\n", indent, c.paint(c.stdout, bold, f.Name), f.Value)
		return
	}
	style := yellow
	if f.Status == "PRESENT" {
		style = green
	}
	c.printf("%s%s  %s  %s\n", indent, c.paint(c.stdout, bold, f.Name), f.Value, c.paint(c.stdout, style, f.Status))
	if f.EventTime != nil {
		c.printf("%s  event      %s, %s before %s\n", indent, *f.EventTime, span(time.Duration(*f.AgeSeconds*float64(time.Second))), instant)
	}
	if f.Expr != "" {
		c.printf("%s  computed   %s:%s = %s\n", indent, f.View, f.Feature, f.Expr)
	}
	if w := f.Window; w != nil {
		c.printf("%s  window     %s of %s, %s\n", indent, w.Function, cmp.Or(w.Column, "rows"), windowText(w))
	}
	if f.Record != nil {
		for line := range strings.Lines(explainedRecord(f.Record)) {
			c.printf("%s%s", indent, line)
		}
	}
	if len(f.Inputs) > 0 {
		c.printf("%s  from       %s\n", indent, strings.Join(f.Inputs, ", "))
	}
	for i := range f.From {
		c.explained(&f.From[i], instant, indent+"    ")
	}
}

func windowText(w *api.ExplainedWindow) string {
	text := "all events up to " + w.To
	if w.From != nil {
		text = fmt.Sprintf("events after %s up to %s, by hops of %s", *w.From, w.To, w.Hop)
	}
	if w.Hops != nil {
		text += fmt.Sprintf(": %d merged", *w.Hops)
	}
	return text
}

func explainedRecord(r *api.ExplainedRecord) string {
	var b strings.Builder
	live := "live"
	if !r.Live {
		live = "not live"
	}
	ttl := "any age"
	if r.TTL != "" {
		ttl = "ttl " + r.TTL
	}
	fmt.Fprintf(&b, "  record     %s@%d (%s), %s, %s\n", r.View, r.Generation, live, r.Keys, ttl)
	switch {
	case !r.Found:
		b.WriteString("             there is none\n")
	case r.Error != "":
		fmt.Fprintf(&b, "             %d bytes that cannot be read: %s\n", r.Bytes, r.Error)
	case r.Epoch != nil:
		fmt.Fprintf(&b, "             %d bytes", r.Bytes)
		if r.EventTime != nil {
			fmt.Fprintf(&b, ", newest event %s", *r.EventTime)
		}
		fmt.Fprintf(&b, "; built anew at %s, every event before offset %d is in it\n", *r.Epoch, *r.NextOffset)
	default:
		fmt.Fprintf(&b, "             %d bytes, event %s, ingested %s\n", r.Bytes, *r.EventTime, *r.IngestedAt)
		if r.Offset != nil {
			fmt.Fprintf(&b, "             written by partition %d, offset %d\n", *r.Partition, *r.Offset)
		} else {
			fmt.Fprintf(&b, "             written by row %d of a file or push taken in at %s\n", *r.Row, *r.TakenIn)
		}
	}
	return b.String()
}
