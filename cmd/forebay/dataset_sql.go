package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/offline/joinsql"
)

func (c *cli) datasetSQLCommand() *cobra.Command {
	var r requested
	var o app.SQLOptions
	cmd := &cobra.Command{
		Use:   "sql (ID | --service S | --features F,…) --dialect clickhouse|duckdb|spark|trino",
		Short: "Print the join as SQL for another engine",
		Long: `Prints the point-in-time join of a dataset, or of a service or features as they are now, as one query
for another engine, over the same tables: ClickHouse, DuckDB, Spark or Trino. It gives the same rows
in the same order. The spine is a table called spine, or --spine NAME, whose instant is a timestamp in
UTC. On-demand features are not part of the query: they are named in a comment and on stderr.`,
		Args: args(0, 1),
	}
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if len(ids) == 1 {
			if r.service != "" || len(r.features) > 0 || o.KnownAt != nil || o.Timestamp != "" {
				return usage(cmd, "a dataset has its own features, timestamp and known_at: give its ID alone")
			}
			o.Dataset = ids[0]
		} else if err := r.check(cmd); err != nil {
			return err
		}
		if !slices.Contains(joinsql.Dialects, joinsql.Dialect(o.Dialect)) {
			return usage(cmd, "%s wants --dialect clickhouse, duckdb, spark or trino", cmd.CommandPath())
		}
		o.Service, o.Features, o.FullNames = r.service, r.features, r.fullNames
		return c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
			text, missing, err := a.DatasetSQL(ctx, o)
			if err != nil {
				return err
			}
			if c.json {
				return c.document(struct {
					SQL     string   `json:"sql"`
					Missing []string `json:"missing,omitempty"`
				}{text, missing})
			}
			if len(missing) > 0 {
				fmt.Fprintf(c.stderr, "Not in the query, since they are computed on demand: %s\n", strings.Join(missing, ", "))
			}
			c.printf("%s", text)
			return nil
		})(cmd, ids)
	}
	r.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Dialect, "dialect", "", "clickhouse, duckdb, spark or trino")
	flags.StringVar(&o.Spine, "spine", "", "what the engine calls the table of the rows to enrich (default spine)")
	flags.StringVar(&o.Timestamp, "timestamp", "", "column of the instant (default event_timestamp)")
	flags.Var(instant{&o.KnownAt}, "known-at", "use only rows that were known at this instant")
	return cmd
}
