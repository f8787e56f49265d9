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
		f := &x.Features[i]
		style := yellow
		if f.Status == "PRESENT" {
			style = green
		}
		c.printf("%s  %s  %s\n", c.paint(c.stdout, bold, f.Name), f.Value, c.paint(c.stdout, style, f.Status))
		if f.EventTime != nil {
			c.printf("  event      %s, %s before %s\n", *f.EventTime, span(time.Duration(*f.AgeSeconds*float64(time.Second))), x.Instant)
		}
		if f.Expr != "" {
			c.printf("  computed   %s:%s = %s\n", f.View, f.Feature, f.Expr)
		}
		if w := f.Window; w != nil {
			c.printf("  window     %s of %s, %s\n", w.Function, cmp.Or(w.Column, "rows"), windowText(w))
		}
		if len(f.Inputs) > 0 {
			c.printf("  from       %s\n", strings.Join(f.Inputs, ", "))
		}
		if f.Record != nil {
			c.printf("%s", explainedRecord(f.Record))
		}
	}
	return nil
}

func windowText(w *api.ExplainedWindow) string {
	if w.From == nil {
		return "all events up to " + w.To
	}
	return fmt.Sprintf("events after %s up to %s: %d hops of %s", *w.From, w.To, w.Hops, w.Hop)
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
	case r.Epoch != nil:
		fmt.Fprintf(&b, "             %d bytes, every event before offset %d of epoch %d\n", r.Bytes, *r.NextOffset, *r.Epoch)
	case r.Error != "":
		fmt.Fprintf(&b, "             %d bytes that cannot be read: %s\n", r.Bytes, r.Error)
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
