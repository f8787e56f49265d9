package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/lineage"
)

func (c *cli) registryCommand() *cobra.Command {
	return subcommands(&cobra.Command{
		Use:   "registry",
		Short: "Read and move the registry",
	}, c.registryListCommand(), c.registryShowCommand(), c.registryHistoryCommand(), c.registryDiffCommand(), c.registryRollbackCommand())
}

func (c *cli) registryListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the definitions of the newest revision",
		Args:  args(0, 0),
		RunE: c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			list, err := a.List(ctx)
			if err != nil {
				return err
			}
			if c.json {
				return c.document(list)
			}
			t := newTable("KIND", "NAME", ">GENERATION", "OWNER", "DESCRIPTION")
			for _, d := range list.Definitions {
				t.add(string(d.Kind), d.Name, number(d.Generation), d.Owner, d.Description)
			}
			c.print(t)
			return nil
		}),
	}
}

func (c *cli) registryShowCommand() *cobra.Command {
	kinds := make([]string, 0, len(lineage.Kinds()))
	for _, k := range lineage.Kinds() {
		kinds = append(kinds, string(k))
	}
	cmd := &cobra.Command{
		Use:   "show KIND NAME",
		Short: "Show one definition of the newest revision",
		Long:  "Shows one definition of the newest revision. KIND is one of " + strings.Join(kinds, ", ") + ".",
		Args:  args(2, 2),
	}
	cmd.RunE = c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		d, err := a.Show(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		if c.json {
			return c.document(d)
		}
		c.printf("%s", d.YAML)
		return nil
	})
	return cmd
}

func (c *cli) registryHistoryCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the revisions, newest first",
		Args:  args(0, 0),
	}
	cmd.RunE = c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
		revisions, err := a.History(ctx, limit)
		if err != nil {
			return err
		}
		if c.json {
			return c.document(struct {
				Revisions []revisionLine `json:"revisions"`
			}{revisionLines(revisions)})
		}
		t := newTable(">NUMBER", "REVISION", "TIME", "AUTHOR", "COMMIT", "NOTE")
		for _, r := range revisionLines(revisions) {
			commit := r.Commit
			if hash, dirty, _ := strings.Cut(commit, "-"); len(hash) > 10 {
				commit = hash[:10]
				if dirty != "" {
					commit += "-" + dirty
				}
			}
			t.add(r.Number, short(r.Revision), r.Time, r.Author, commit, r.Note)
		}
		c.print(t)
		return nil
	})
	cmd.Flags().IntVar(&limit, "limit", 0, "list only the newest so many (0: all)")
	return cmd
}

// revisionLine is a revision without what it declares.
type revisionLine struct {
	Number   int       `json:"number"`
	Revision string    `json:"revision"`
	Parent   string    `json:"parent,omitempty"`
	Time     time.Time `json:"time"`
	Author   string    `json:"author,omitempty"`
	Commit   string    `json:"commit,omitempty"`
	Note     string    `json:"note,omitempty"`
}

func revisionLines(revisions []*registry.Revision) []revisionLine {
	lines := make([]revisionLine, len(revisions))
	for i, r := range revisions {
		lines[i] = revisionLine{r.Number, r.ID, r.Parent, r.Time, r.Author, r.Commit, r.Note}
	}
	return lines
}

func (c *cli) registryDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "Show what revision B changed since A, as numbers or IDs",
		Args:  args(2, 2),
		RunE: c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
			p, err := a.Diff(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if c.json {
				return c.document(p)
			}
			c.printPlan(c.stdout, p)
			return nil
		}),
	}
}

func (c *cli) registryRollbackCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rollback REV",
		Short: "Append a revision that declares what an earlier one did",
		Args:  args(1, 1),
	}
	cmd.RunE = c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		p, r, err := a.Rollback(ctx, args[0], dryRun)
		if err != nil {
			return err
		}
		if c.json {
			return c.document(applied{Revision: r.ID, Number: r.Number, Changed: !dryRun, DryRun: dryRun, Plan: p})
		}
		c.printPlan(c.stdout, p)
		if dryRun {
			c.printf("Dry run: nothing was applied.\n")
			return nil
		}
		c.printf("Applied revision %d (%s): %s\n", r.Number, short(r.ID), r.Note)
		_, _ = fmt.Fprintln(c.stderr, "The YAML still declares what it did; change it back too, or the next apply undoes the rollback.")
		return nil
	})
	dryRunFlag(cmd, &dryRun, "show what would change, and append nothing")
	return cmd
}
