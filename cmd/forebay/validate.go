package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

// validated is what `forebay validate` prints with --json.
type validated struct {
	Project       string `json:"project"`
	Entities      int    `json:"entities"`
	Sources       int    `json:"sources"`
	Views         int    `json:"views"`
	OnDemandViews int    `json:"on_demand_views"`
	Services      int    `json:"services"`
}

func (c *cli) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the YAML: every mistake, with its place",
		Args:  args(0, 0),
		RunE: c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			p, err := a.Definitions(ctx)
			if err != nil {
				return err
			}
			v := validated{p.Name, len(p.Entities), len(p.Sources), len(p.Views), len(p.OnDemand), len(p.Services)}
			if c.json {
				return c.document(v)
			}
			c.printf("%s is valid: ", v.Project)
			for i, part := range []struct {
				n    int
				what string
			}{{v.Entities, "entity"}, {v.Sources, "source"}, {v.Views, "feature view"}, {v.OnDemandViews, "on-demand view"}, {v.Services, "service"}} {
				if i > 0 {
					c.printf(", ")
				}
				c.printf("%s", plural(int64(part.n), part.what))
			}
			c.printf("\n")
			return nil
		}),
	}
}
