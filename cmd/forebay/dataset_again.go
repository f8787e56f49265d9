package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) datasetRebuildCommand() *cobra.Command {
	var out string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rebuild ID --out FILE",
		Short: "Build a dataset again, exactly as it was",
		Long: `Builds a dataset again, by ID, the start of one, or name, from the kept copy of its spine and the
snapshots that it was built from, whatever was ingested or applied since. The rows are compared
with those of the first build: a file is written only if they are the same.`,
		Args: args(1, 1),
	}
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if out == "" {
			return usage(cmd, "%s wants --out", cmd.CommandPath())
		}
		return c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
			to := out
			if dryRun {
				to = ""
			}
			p := c.startProgress("dataset", "rows")
			d, err := a.RebuildDataset(ctx, args[0], to, p.set)
			p.stop()
			switch {
			case err != nil:
				return err
			case c.json:
				return c.document(d)
			case dryRun:
				c.printf("Would write %s, with the content hash of the first build, to %s.\n", plural(d.Rows, "row"), out)
			default:
				c.printf("%s\n", d.ID)
				c.printf("%s, with the content hash of the first build, written to %s\n", plural(d.Rows, "row"), out)
			}
			return nil
		})(cmd, ids)
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write: .parquet, .arrow, .csv or .ndjson")
	dryRunFlag(cmd, &dryRun, "build and compare, and write nothing")
	return cmd
}

func (c *cli) datasetVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify ID [FILE]",
		Short: "Check that a dataset can be built again, or that a file holds it",
		Long: `Without a file: builds the dataset again, from the kept copy of its spine and the snapshots that it was
built from, and compares the rows with those of the first build. With a file: compares its rows
with those of the dataset. Rows are compared by their canonical form, so a file may
be of any format and cut into batches in any way. Exits with 1, naming what differs.`,
		Args: args(1, 2),
		RunE: c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
			file := ""
			if len(args) > 1 {
				file = args[1]
			}
			p := c.startProgress("dataset", "rows")
			d, err := a.VerifyDataset(ctx, args[0], file, p.set)
			p.stop()
			if err != nil {
				return err
			}
			if c.json {
				return c.document(d)
			}
			c.printf("%s\n", d.ID)
			if file == "" {
				c.printf("It can be built again: %s, content hash %s\n", plural(d.Rows, "row"), d.ContentHash)
			} else {
				c.printf("%s holds it: %s, content hash %s\n", file, plural(d.Rows, "row"), d.ContentHash)
			}
			return nil
		}),
	}
}
