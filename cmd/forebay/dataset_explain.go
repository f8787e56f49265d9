package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/offline/dataset"
)

func (c *cli) datasetExplainCommand() *cobra.Command {
	var row int64
	cmd := &cobra.Command{
		Use:   "explain ID --row N",
		Short: "Show which source row gave each value of a row, and which newer rows were not used",
		Long: `Shows for each feature of row N of a dataset (rows count from 0) which row of its source gave the
value, by file and row or topic, partition and offset, with its event and ingestion time; and
which newer rows of the entity were not used, and why: they lie after the row's instant, were
not known at known_at, are not selected by the view's filter, or came after the dataset
was built. Of a window it shows the bounds and how many events were counted.`,
		Args: args(1, 1),
	}
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if !cmd.Flags().Changed("row") {
			return usage(cmd, "%s wants --row", cmd.CommandPath())
		}
		return c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
			e, err := a.ExplainDataset(ctx, args[0], row)
			if err != nil {
				return err
			}
			if c.json {
				return c.document(e)
			}
			c.explanation(e)
			return nil
		})(cmd, ids)
	}
	cmd.Flags().Int64Var(&row, "row", 0, "the row, counted from 0")
	return cmd
}

func named(ns []dataset.Named) string {
	parts := make([]string, len(ns))
	for i, n := range ns {
		parts[i] = n.Name + "=" + strings.Trim(n.Value.String(), `"`)
	}
	return strings.Join(parts, ", ")
}

// explanation prints an explanation for people: the features of each view that was read together.
func (c *cli) explanation(e *dataset.Explanation) {
	c.printf("Row %d of %s\n%s\n", e.Row, short(e.Dataset), named(e.Spine))
	if e.KnownAt != "" {
		c.printf("known_at=%s\n", e.KnownAt)
	}
	for i, r := range e.Reads {
		c.printf("\n%s of %s: %s\n", r.View, named(r.Entity), r.Status)
		for _, f := range e.Features {
			if f.Read == i {
				c.printf("  %s = %s  %s\n", f.Name, f.Value, f.Status)
			}
		}
		if r.Source != nil {
			c.printf("  from %s\n", place(r.Source))
			if r.Status == "OUTSIDE_MAX_AGE" {
				c.printf("  which is older than the view's ttl of %s\n", r.TTL)
			}
		}
		for _, w := range r.Windows {
			c.printf("  %s: %s\n", w.Feature, window(w))
		}
		if r.Newer > 0 {
			what := "newer rows, not used"
			if r.Source == nil {
				what = "rows of the entity, not used"
			}
			c.printf("  %s: %d\n", what, r.Newer)
			for _, u := range r.Unused {
				c.printf("    %s: %s\n", place(&u.SourceRow), reasons(u.Reasons))
			}
			if more := r.Newer - int64(len(r.Unused)); more > 0 {
				c.printf("    and %d more\n", more)
			}
		}
	}
	for _, f := range e.Features {
		if f.Read < 0 {
			c.printf("\n")
			c.computed(e, f, "")
		}
	}
}

// computed prints a feature that is computed on demand, and what it is computed from.
func (c *cli) computed(e *dataset.Explanation, f dataset.Explained, indent string) {
	c.printf("%s%s = %s  %s", indent, f.Name, f.Value, f.Status)
	switch {
	case f.Expr != "":
		c.printf("  computed by %s\n", f.Expr)
	case f.Read >= 0:
		c.printf("  from %s of %s\n", e.Reads[f.Read].View, named(e.Reads[f.Read].Entity))
	default:
		c.printf("  from the spine\n")
	}
	for _, in := range f.Inputs {
		c.computed(e, in, indent+"  ")
	}
}

// place says where a row came from, and its times.
func place(r *dataset.SourceRow) string {
	times := fmt.Sprintf("event time %s, ingested %s", r.EventTime, r.IngestedAt)
	switch {
	case r.File != "":
		return fmt.Sprintf("row %d of %s: %s", *r.Row, r.File, times)
	case r.Topic != "":
		return fmt.Sprintf("topic %s, partition %d, offset %d: %s", r.Topic, *r.Partition, *r.Offset, times)
	}
	return times
}

func window(w dataset.WindowRead) string {
	from := "all"
	if w.After != "" {
		from = "after " + w.After
	}
	s := fmt.Sprintf("%s through %s: %s, %d counted", from, w.Through, plural(w.Events, "event"), w.Counted)
	for _, why := range slices.Sorted(maps.Keys(w.Unused)) {
		s += fmt.Sprintf("; not used %d: %s", w.Unused[why], reasons([]string{why}))
	}
	return s
}

// reasons says in words why a row was not used.
func reasons(codes []string) string {
	words := map[string]string{
		dataset.AfterInstant:  "after the row's instant",
		dataset.NotKnownYet:   "not known yet at known_at",
		dataset.Filtered:      "not selected by the view's filter",
		dataset.AppendedLater: "appended after the dataset was built",
		dataset.Unexplained:   "for no reason that is known; please report this",
	}
	parts := make([]string, len(codes))
	for i, code := range codes {
		parts[i] = words[code]
	}
	return strings.Join(parts, "; ")
}
