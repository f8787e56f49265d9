package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/materialize"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show views, generations, freshness, lag, rows and bytes",
		Args:  args(0, 0),
		RunE: c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			s, err := a.Status(ctx)
			if err != nil {
				return err
			}
			if c.json {
				return c.document(s)
			}
			c.printf("%s  %s\nrevision %d  %s  applied %s by %s\n\n", c.paint(c.stdout, bold, s.Project), s.Environment,
				s.Revision.Number, short(s.Revision.ID), s.Revision.Time.UTC().Format(time.RFC3339), s.Revision.Author)
			sources := newTable("SOURCE", ">ROWS", ">BYTES", ">FILES", "NEWEST EVENT", ">BEHIND", "TOPIC", ">LAG")
			for _, r := range s.Sources {
				var lag any = "-"
				if r.Lag != nil {
					lag = *r.Lag
				}
				sources.add(r.Source, r.Rows, size(r.Bytes), r.Files, stamp(r.Newest), behind(r.Newest, s.At), r.Topic, lag)
			}
			c.print(sources)
			c.printf("\n")
			views := newTable("VIEW", ">LIVE", ">CURRENT", ">OFFLINE ROWS", ">BYTES", ">ONLINE", ">BYTES", "NEWEST EVENT", "STATE")
			for _, v := range s.Views {
				views.add(v.View, number(v.Live), v.Current, v.OfflineRows, size(v.OfflineBytes), v.OnlineRecords, size(v.OnlineBytes), stamp(v.Newest), v.State)
			}
			c.print(views)
			c.printGenerations(s.Views)
			c.printStreams(s)
			if s.Owner != nil {
				c.printf("\nThe embedded stores are held by `%s`, process %d.\n", s.Owner.Command, s.Owner.PID)
			}
			return nil
		}),
	}
}

// printGenerations writes the generations that are not live, but of views that have nothing else.
func (c *cli) printGenerations(views []app.ViewStatus) {
	t := newTable("GENERATION", "STATE", "APPLIED", "LIVE UNTIL", "DROPPED")
	for _, v := range views {
		if v.Pinned {
			t.add(fmt.Sprintf("%s@%d", v.View, v.Live), "live, pinned", "", time.Time{}, time.Time{})
		}
		if v.Live == 0 {
			continue // what the view's own line says
		}
		for _, g := range v.Generations {
			t.add(fmt.Sprintf("%s@%d", g.View, g.Generation), generationState(g), offsets(g), stamp(g.Ended), stamp(g.Drops))
		}
	}
	if len(t.rows) > 0 {
		c.printf("\n")
		c.print(t)
	}
}

// printStreams writes how fresh what comes from topics is, by source and by view; with -v by partition too.
func (c *cli) printStreams(s *app.Status) {
	sources := newTable("STREAM", "STATE", ">MEMBERS", ">LAG", ">LAG TIME", "WATERMARK", ">SERVED IN (P50)", ">(P99)", ">DEAD LETTERS", "AS OF")
	partitions := newTable("PARTITION", ">NEXT OFFSET", ">END", ">LAG", ">LAG TIME", "WATERMARK")
	for _, src := range s.Sources {
		r := src.Stream
		if r == nil {
			continue
		}
		state := cell{text: string(r.State)}
		switch {
		case r.Error != "":
			state = cell{state.text + ": " + r.Error, red}
		case !r.Running && r.State != materialize.StateStopped:
			state = cell{"silent", yellow} // it was killed, or the online store was away
		}
		sources.add(src.Source, state, r.Members, r.Lag, span(seconds(r.LagSeconds)), stamp(r.Watermark), atMost(r, r.ServedP50), atMost(r, r.ServedP99), r.DeadLetters, r.At)
		for _, p := range r.Partitions {
			partitions.add(fmt.Sprintf("%s/%d", src.Topic, p.Partition), p.Next, p.End, p.Lag, span(seconds(p.LagSeconds)), stamp(p.Watermark))
		}
	}
	if len(sources.rows) == 0 {
		return
	}
	c.printf("\n")
	c.print(sources)
	if c.verbose {
		c.printf("\n")
		c.print(partitions)
	}
	views := newTable("VIEW", "WATERMARK", ">LAG TIME", ">STALE", ">LATE", ">NAN", "BUILT AT")
	for _, v := range s.Views {
		if v.LagSeconds != nil {
			views.add(v.View, stamp(v.Watermark), span(seconds(*v.LagSeconds)), v.Stale, v.Late, v.NaNs, stamp(v.Epoch))
		}
	}
	if len(views.rows) > 0 {
		c.printf("\n")
		c.print(views)
	}
}

// atMost is a bound of delays; a dash where there were none.
func atMost(r *app.StreamStatus, bound float64) string {
	if r.Served == 0 {
		return "-"
	}
	return "<= " + span(seconds(bound))
}

// stamp is an instant for a table; zero is none.
func stamp(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// behind is how old the newest event is.
func behind(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return span(now.Sub(*t))
}

// number is a count where 0 means none.
func number(n int) any {
	if n == 0 {
		return "-"
	}
	return n
}

// short is a content hash as people write it: sha256:1234567890ab.
func short(id string) string {
	const n = len("sha256:") + 12
	if len(id) > n {
		return id[:n]
	}
	return id
}
