package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/registry/plan"
)

func (c *cli) planCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change, and what is dangerous about it",
		Long: `Compares the YAML with the newest revision of the registry: the changes, coded findings,
the views to backfill and the consumers affected. Exits with 3 if a finding is blocking.`,
		Args: args(0, 0),
		RunE: c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			p, err := a.Plan(ctx)
			if err != nil {
				return err
			}
			if c.json {
				if err := c.document(p); err != nil {
					return err
				}
			} else {
				c.printPlan(c.stdout, p)
			}
			if p.Blocking() {
				return errFindings
			}
			return nil
		}),
	}
}

var planStyles = map[plan.Style]style{
	plan.Heading: bold, plan.Added: green, plan.Modified: yellow, plan.Removed: red,
	plan.Blocks: red, plan.Warns: yellow, plan.Notes: faint,
}

// printPlan writes a plan for people.
func (c *cli) printPlan(w io.Writer, p *plan.Plan) {
	for _, l := range p.Lines() {
		text := l.Text
		if s, ok := planStyles[l.Style]; ok {
			text = c.paint(w, s, text)
		}
		_, _ = fmt.Fprintf(w, "%s%s\n", strings.Repeat("  ", l.Indent), text)
	}
}
