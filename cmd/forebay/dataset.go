package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/app"
)

func (c *cli) datasetCommand() *cobra.Command {
	return subcommands(&cobra.Command{
		Use:   "dataset",
		Short: "Build training datasets, point-in-time-correct, and build them again",
	}, c.datasetBuildCommand(), c.datasetListCommand(), c.datasetShowCommand(), c.datasetVerifyCommand(), c.datasetRebuildCommand(), c.datasetExplainCommand(), c.datasetSQLCommand(), c.datasetCardCommand(), c.datasetRemoveCommand())
}

func (c *cli) datasetBuildCommand() *cobra.Command {
	var r requested
	var o app.DatasetOptions
	cmd := &cobra.Command{
		Use:   "build (--service S | --features F,…) --spine FILE --out FILE",
		Short: "Join a spine with features as they were at each row's instant",
		Long: `Joins every row of the spine with the features as they were at the row's instant and writes
the result, in the spine's order. The spine is a Parquet, CSV or NDJSON file, or with '-' an
Arrow stream on stdin; it has the key columns, event_timestamp (or --timestamp COL), and the
request fields that on-demand features read; other columns pass through. The format of --out
is its ending's: .parquet, .arrow, .csv or .ndjson. Prints the dataset's ID.`,
		Example: "  forebay dataset build --service delay_model --spine data/spine.parquet --out train.parquet",
		Args:    args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, none []string) error {
		if err := r.check(cmd); err != nil {
			return err
		}
		if o.Spine == "" || o.Out == "" {
			return usage(cmd, "%s wants --spine and --out", cmd.CommandPath())
		}
		o.Service, o.Features, o.FullNames = r.service, r.features, r.fullNames
		o.Stdin = c.stdin
		return c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			return c.buildDataset(ctx, a, o)
		})(cmd, none)
	}
	r.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Spine, "spine", "", "file with the rows to enrich; - is an Arrow stream on stdin")
	flags.StringVar(&o.Out, "out", "", "file to write: .parquet, .arrow, .csv or .ndjson")
	flags.StringVar(&o.Timestamp, "timestamp", "", "column of the instant (default event_timestamp)")
	flags.Var(instant{&o.KnownAt}, "known-at", "use only rows that were known at this instant")
	flags.StringVar(&o.Name, "name", "", "a name to find the dataset by; it pins, too")
	flags.BoolVar(&o.Pin, "pin", false, "keep the snapshots that are read from being expired")
	flags.Var(memory{&o.Memory}, "memory", "what the join may use, such as 512MB; a larger spine goes in parts (default 1GB)")
	dryRunFlag(cmd, &o.DryRun, "check the request and the spine's columns, and write nothing")
	return cmd
}

func (c *cli) buildDataset(ctx context.Context, a *app.App, o app.DatasetOptions) error {
	c.inBulk()
	p := c.startProgress("dataset", "rows")
	o.Progress = p.set
	d, err := a.BuildDataset(ctx, o)
	p.stop()
	if err != nil {
		return err
	}
	if c.json {
		return c.document(d)
	}
	if o.DryRun {
		c.printf("Would join %s with %s and write %s.\n", o.Spine, plural(int64(len(d.Features)), "feature"), o.Out)
		return nil
	}
	c.printf("%s\n", d.ID)
	took := p.elapsed()
	c.printf("%s with %s in %s (%s), written to %s\n", plural(d.Rows, "row"), plural(int64(len(d.Features)), "feature"), span(took), rate(d.Rows, took), o.Out)
	return nil
}

func (c *cli) datasetListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the datasets that were built",
		Args:  args(0, 0),
		RunE: c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			list, err := a.Datasets(ctx)
			if err != nil {
				return err
			}
			if c.json {
				return c.document(struct {
					Datasets []api.Dataset `json:"datasets"`
				}{list})
			}
			if len(list) == 0 {
				c.printf("No dataset has been built yet; `forebay dataset build` makes one.\n")
				return nil
			}
			t := newTable("ID", "NAME", ">ROWS", ">FEATURES", "PINNED", "BUILT")
			for _, d := range list {
				pinned := ""
				if d.Pinned {
					pinned = "yes"
				}
				t.add(short(d.ID), d.Name, d.Rows, len(d.Features), pinned, d.Created)
			}
			c.print(t)
			return nil
		}),
	}
}

func (c *cli) datasetShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show what went into a dataset, by ID or name",
		Args:  args(1, 1),
		RunE: c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
			d, err := a.Dataset(ctx, args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.document(d)
			}
			c.printf("%s\n", d.ID)
			c.printf("%s", indented(d.Manifest))
			return nil
		}),
	}
}

// indented is JSON for people.
func indented(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw) + "\n"
	}
	return b.String() + "\n"
}
