package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

func (c *cli) generationCommand() *cobra.Command {
	return subcommands(&cobra.Command{
		Use:   "generation",
		Short: "Say which generation of a view is live",
	}, c.generationListCommand(), c.generationPromoteCommand(), c.generationRollbackCommand())
}

func (c *cli) generationListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [VIEW]",
		Short: "List the generations of the views, and how far each is",
		Args:  args(0, 1),
		RunE: c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
			view := ""
			if len(args) > 0 {
				view = args[0]
			}
			all, err := a.Generations(ctx, view)
			if err != nil {
				return err
			}
			if c.json {
				return c.document(struct {
					Generations []app.Generation `json:"generations"`
				}{append([]app.Generation{}, all...)})
			}
			t := newTable("VIEW", ">GENERATION", "STATE", ">REVISION", ">RECORDS", ">BYTES", "APPLIED", "LIVE UNTIL", "DROPPED")
			for _, g := range all {
				t.add(g.View, g.Generation, generationState(g), g.Revision, g.Records, size(g.Bytes), offsets(g), stamp(g.Ended), stamp(g.Drops))
			}
			c.print(t)
			return nil
		}),
	}
}

func generationState(g app.Generation) cell {
	text := string(g.State)
	if g.Pinned {
		text += ", pinned"
	}
	switch g.State {
	case app.GenerationLive:
		return cell{text, green}
	case app.GenerationFilling, app.GenerationReady:
		return cell{text, yellow}
	}
	return cell{text, faint}
}

// offsets is how far a generation is: "1,200 of 3,000 offsets (40%)".
func offsets(g app.Generation) string {
	if g.Applied == nil || g.ToReach == nil {
		return ""
	}
	part := 100.0
	if *g.ToReach > 0 {
		part = 100 * float64(*g.Applied) / float64(*g.ToReach)
	}
	return fmt.Sprintf("%s of %s offsets (%.0f%%)", count(*g.Applied), count(*g.ToReach), part)
}

func (c *cli) generationPromoteCommand() *cobra.Command {
	var o app.PromoteOptions
	cmd := &cobra.Command{
		Use:   "promote VIEW",
		Short: "Make a generation of a view live, for all servers at once",
		Long: `Makes the generation of the newest revision live, once it has caught up with the log, and
lets later ones go live by themselves again. With --generation an earlier one goes live, and
stays until the next promote.`,
		Args: args(1, 1),
	}
	cmd.RunE = c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		o.View = args[0]
		if cmd.Flags().Changed("generation") && o.Generation < 1 {
			return usage(cmd, "--generation is a whole number from 1")
		}
		m, err := a.Promote(ctx, o)
		if err != nil {
			return err
		}
		return c.moved(m)
	})
	cmd.Flags().IntVar(&o.Generation, "generation", 0, "the generation to make live (default: that of the newest revision)")
	cmd.Flags().BoolVar(&o.Force, "force", false, "promote it even where it is behind the log")
	dryRunFlag(cmd, &o.DryRun, "say what would go live, and change nothing")
	return cmd
}

func (c *cli) generationRollbackCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rollback VIEW",
		Short: "Make the generation live again that was live before",
		Long: `Makes the generation live again that was live before the one that is, for all servers in less
than a second. It stays live until the next promote, whatever the stream fills. A second
rollback undoes the first.`,
		Args: args(1, 1),
	}
	cmd.RunE = c.withHead(slog.LevelWarn, func(ctx context.Context, a *app.App, args []string) error {
		m, err := a.RollbackGeneration(ctx, args[0], dryRun)
		if err != nil {
			return err
		}
		return c.moved(m)
	})
	dryRunFlag(cmd, &dryRun, "say what would go live, and change nothing")
	return cmd
}

// moved tells what became of a live pointer.
func (c *cli) moved(m *app.GenerationMove) error {
	if c.json {
		return c.document(m)
	}
	switch {
	case !m.Changed:
		c.printf("%s@%d is live already", m.View, m.To)
	case m.From == 0:
		c.printf("%s@%d is live", m.View, m.To)
	default:
		c.printf("%s@%d is live instead of %s@%d", m.View, m.To, m.View, m.From)
	}
	if m.Pinned {
		c.printf(", until `forebay generation promote %s`", m.View)
	}
	c.printf(".\n")
	if m.DryRun {
		c.printf("Dry run: nothing was changed.\n")
	}
	return nil
}
