package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) ingestCommand() *cobra.Command {
	var o app.IngestOptions
	cmd := &cobra.Command{
		Use:   "ingest SOURCE [FILE…]",
		Short: "Append files to a source's log",
		Long: `Appends Parquet, CSV or NDJSON files to the log of a source, in the order given;
without any, the files of the source's glob, sorted by name. A file that the log
holds already, by its content, is skipped. Rows that cannot be read are put into a
quarantine file with the reason, and the others are ingested.`,
		Args: args(1, -1),
	}
	cmd.RunE = c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		o.Source, o.Files = args[0], args[1:]
		return c.ingest(ctx, a, o)
	})
	cmd.Flags().BoolVar(&o.Strict, "strict", false, "fail where a row is bad, instead of leaving it out; nothing of its file is ingested")
	dryRunFlag(cmd, &o.DryRun, "read and check the files, and append nothing")
	return cmd
}

// ingested is what `forebay ingest` prints with --json.
type ingested struct {
	Source  string         `json:"source"`
	DryRun  bool           `json:"dry_run,omitempty"`
	Rows    int64          `json:"rows"`
	BadRows int64          `json:"bad_rows"`
	Files   []app.Ingested `json:"files"`
}

// bulkGCPercent is how much garbage a bulk command lets gather, in percent of what it holds.
const bulkGCPercent = 75

// inBulk collects garbage early: what ingest and dataset build hold is a few large vectors, and
// as much again would be the greater part of their memory. Less than this costs more than it saves: the definitions that
// libraries hold are looked at each time, too.
func (c *cli) inBulk() {
	if c.env("GOGC") == "" {
		debug.SetGCPercent(bulkGCPercent)
	}
}

func (c *cli) ingest(ctx context.Context, a *app.App, o app.IngestOptions) error {
	c.inBulk()
	var p *progress
	o.Progress = func(file string, done, total int64) {
		if p == nil || p.label != file {
			if p != nil {
				p.stop()
			}
			p = c.startProgress(file, "rows")
		}
		p.set(done, total)
	}
	files, err := a.Ingest(ctx, o)
	if p != nil {
		p.stop()
	}
	if len(files) == 0 && err != nil {
		return err
	}
	doc := ingested{Source: o.Source, DryRun: o.DryRun, Files: files}
	t := newTable("FILE", ">ROWS", ">BAD", ">TIME", ">RATE", "")
	var quarantines []app.Ingested
	for _, f := range files {
		doc.Rows += f.Rows
		doc.BadRows += f.Bad
		state := cell{}
		switch {
		case f.Skipped:
			state = cell{text: "skipped: already ingested", style: faint}
		case o.DryRun:
			state = cell{text: "not appended: dry run", style: faint}
		}
		d := seconds(f.Seconds)
		bad := cell{text: count(f.Bad)}
		if f.Bad > 0 {
			bad.style = yellow
			quarantines = append(quarantines, f)
		}
		t.add(f.File, f.Rows, bad, span(d), rate(f.Rows, d), state)
	}
	c.print(t)
	for _, f := range quarantines {
		if f.Quarantine == "" {
			fmt.Fprintf(c.stderr, "%s: %s\n", f.File, plural(f.Bad, "bad row"))
		} else {
			fmt.Fprintf(c.stderr, "%s: %s left out, with reasons in %s\n", f.File, plural(f.Bad, "bad row"), f.Quarantine)
		}
	}
	if err != nil || !c.json {
		return err
	}
	return c.document(doc)
}
