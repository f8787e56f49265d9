package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) datasetCardCommand() *cobra.Command {
	var out, label, name string
	cmd := &cobra.Command{
		Use:   "card FILE --out CARD.html|CARD.json",
		Short: "Describe the columns of a dataset's file, as a page or as JSON",
		Long: `Describes a dataset's file: of each column its nulls, least, greatest and mean value and a histogram, and with
--label how the classes of that column are balanced. The page of HTML needs nothing beside it.`,
		Args: args(1, 1),
	}
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		ext := strings.ToLower(filepath.Ext(out))
		if ext != ".html" && ext != ".json" {
			return usage(cmd, "%s wants --out with a file that ends in .html or .json", cmd.CommandPath())
		}
		card, err := app.DatasetCard(cmd.Context(), files[0], name, label)
		if err != nil {
			return err
		}
		write := card.WriteHTML
		if ext == ".json" {
			write = card.WriteJSON
		}
		if err := app.WriteWhole(out, write); err != nil {
			return err
		}
		if c.json {
			return c.document(card)
		}
		c.printf("%s, %s described in %s\n", plural(card.Rows, "row"), plural(int64(len(card.Columns)), "column"), out)
		return nil
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write: .html or .json")
	cmd.Flags().StringVar(&label, "label", "", "column of the classes")
	cmd.Flags().StringVar(&name, "name", "", "title of the page (default: the file's name)")
	return cmd
}

func (c *cli) datasetRemoveCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Forget a dataset: its manifest, its copy of the spine, its pins",
		Long: `Forgets a dataset, by ID, the start of one, or name: its manifest, the copy of its spine unless another dataset
has the same one, and the pins of its snapshots, which tables are then free to expire. Files that were
written of it stay. Building it anew gives the same ID.`,
		Args: args(1, 1),
	}
	cmd.RunE = c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		d, err := a.RemoveDataset(ctx, args[0], dryRun)
		switch {
		case err != nil:
			return err
		case c.json:
			return c.document(d)
		case dryRun:
			c.printf("Would remove %s\n", d.ID)
		default:
			c.printf("Removed %s\n", d.ID)
		}
		return nil
	})
	dryRunFlag(cmd, &dryRun, "say what would be removed, and remove nothing")
	return cmd
}
