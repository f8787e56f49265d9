package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/registry/feature"
)

// requested are the flags that say which features are asked for.
type requested struct {
	service   string
	features  []string
	fullNames bool
}

func (r *requested) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.service, "service", "", "feature service to ask for")
	cmd.Flags().StringSliceVar(&r.features, "features", nil, "feature references to ask for: view:feature,view,view@N:feature")
	cmd.Flags().BoolVar(&r.fullNames, "full-names", false, "name features view__feature")
}

func (r *requested) check(cmd *cobra.Command) error {
	if (r.service == "") == (len(r.features) == 0) {
		return usage(cmd, "%s wants either --service or --features", cmd.CommandPath())
	}
	return nil
}

func (c *cli) getCommand() *cobra.Command {
	var r requested
	var at *int64
	var explain bool
	cmd := &cobra.Command{
		Use:   "get (--service S | --features F,…) key=value…",
		Short: "Look up the features of one entity",
		Long: `Looks up one entity online: its keys, and the request's fields where the features read
some, are given as name=value. Prints each feature with its value, status, event time and age.`,
		Example: "  forebay get --service delay_model origin=SFO destination=JFK scheduled_distance=2586",
		Args:    args(0, -1),
	}
	cmd.RunE = func(cmd *cobra.Command, pairs []string) error {
		if err := r.check(cmd); err != nil {
			return err
		}
		o := app.GetOptions{Service: r.service, Features: r.features, FullNames: r.fullNames}
		for _, pair := range pairs {
			name, value, ok := strings.Cut(pair, "=")
			if !ok || name == "" {
				return usage(cmd, "%q is not of the form name=value", pair)
			}
			o.Entity = append(o.Entity, app.Pair{Name: name, Value: value})
		}
		return c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			a.SetClock(at)
			if explain {
				return c.getExplained(ctx, a, o)
			}
			return c.get(ctx, a, o)
		})(cmd, pairs)
	}
	r.flags(cmd)
	cmd.Flags().Var(instant{&at}, "at", "look up as if it were this instant, to look at historical data")
	cmd.Flags().BoolVar(&explain, "explain", false, "say where each value comes from: record, generation, offset, times")
	return cmd
}

func (c *cli) get(ctx context.Context, a *app.App, o app.GetOptions) error {
	got, err := a.Get(ctx, o)
	if err != nil {
		return err
	}
	if c.json {
		return c.document(got)
	}
	t := newTable("FEATURE", "VALUE", "STATUS", "EVENT TIME", ">AGE")
	expired := false
	for _, f := range got.Features {
		if f.Status == feature.OutsideMaxAge {
			expired = true
		}
		var at, age string
		if f.EventTime != nil {
			at = feature.FormatTimestamp(*f.EventTime)
			age = span(time.Duration(got.At-*f.EventTime) * time.Microsecond)
		}
		status := cell{text: f.Status.String(), style: yellow}
		if f.Status == feature.Present {
			status.style = green
		}
		t.add(f.Name, f.Value.String(), status, at, age)
	}
	c.print(t)
	if expired {
		c.note("OUTSIDE_MAX_AGE: older than the view's ttl; --at T looks up as of another instant")
	}
	for _, name := range got.Unused {
		c.note("%s is neither a key nor a request field of these features", name)
	}
	return nil
}
