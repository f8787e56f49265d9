package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/registry/plan"
)

// applyOptions are the flags of apply.
type applyOptions struct {
	autoApprove, dryRun bool
	allow               []string // codes of blocking findings
}

func (c *cli) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Append the YAML to the registry as a new revision",
		Long: `Shows the plan, asks, and appends the new revision with its author and Git commit. Of two
applies at once one fails. A plan with blocking findings is refused (exit code 3) unless each
of their codes is named with --allow.`,
		Args: args(0, 0),
	}
	cmd.RunE = c.with(slog.LevelWarn, func(ctx context.Context, a *app.App, _ []string) error {
		return c.apply(ctx, cmd, a, o)
	})
	cmd.Flags().BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	cmd.Flags().StringSliceVar(&o.allow, "allow", nil, "codes of blocking findings to apply in spite of")
	dryRunFlag(cmd, &o.dryRun, "show the plan, and append nothing")
	return cmd
}

// applied is what `forebay apply` and `forebay registry rollback` print with --json.
type applied struct {
	Revision string     `json:"revision,omitempty"` // the ID; "" where nothing was appended
	Number   int        `json:"number,omitempty"`
	Changed  bool       `json:"changed"`
	DryRun   bool       `json:"dry_run,omitempty"`
	Plan     *plan.Plan `json:"plan,omitempty"`
}

func (c *cli) apply(ctx context.Context, cmd *cobra.Command, a *app.App, o applyOptions) error {
	p, err := a.Plan(ctx)
	if err != nil {
		return err
	}
	if !c.json {
		c.printPlan(c.stdout, p)
	}
	if p.Empty() {
		if c.json {
			return c.document(applied{Revision: p.Base.ID, Number: p.Base.Number, Plan: p})
		}
		c.printFilling(ctx, a)
		return nil
	}
	if codes := refused(p, o.allow); len(codes) > 0 {
		return &app.Error{
			Code: app.CodeBlocked,
			Err:  errors.New("not applied: the plan has blocking findings"),
			Hint: "To apply in spite of them: --allow " + strings.Join(codes, ","),
		}
	}
	if o.dryRun {
		if c.json {
			return c.document(applied{DryRun: true, Plan: p})
		}
		c.printf("Dry run: nothing was applied.\n")
		return nil
	}
	if !o.autoApprove {
		if yes, err := c.ask(cmd, "Apply these changes?"); err != nil || !yes {
			return err
		}
	}
	r, err := a.Apply(ctx, p)
	if err != nil {
		return err
	}
	if c.json {
		return c.document(applied{Revision: r.ID, Number: r.Number, Changed: true, Plan: p})
	}
	c.printf("Applied revision %d (%s)\n", r.Number, short(r.ID))
	for _, b := range p.Backfills {
		if b.Previous > 0 {
			c.printf("%s@%d is filled beside %s@%d by `forebay stream` or `forebay materialize`\n", b.View, b.Generation, b.View, b.Previous)
		}
	}
	c.printFilling(ctx, a)
	return nil
}

// fillingWait bounds how long apply asks the stores how far generations are.
const fillingWait = 3 * time.Second

// printFilling tells how far the generations are that are filled beside live ones. What was
// applied was applied: stores that do not answer are worth a note.
func (c *cli) printFilling(ctx context.Context, a *app.App) {
	ctx, cancel := context.WithTimeout(ctx, fillingWait)
	defer cancel()
	filling, err := a.Filling(ctx)
	if err != nil {
		c.note("how far new generations are cannot be told now: %v", err)
	}
	for _, g := range filling {
		text := string(g.State)
		if g.State == app.GenerationDropped {
			text = string(app.GenerationFilling)
		}
		if far := offsets(g); far != "" {
			text += ", " + far
		}
		c.printf("%s@%d: %s\n", g.View, g.Generation, text)
	}
}

// refused are the codes of a plan's blocking findings that are not allowed, each once.
func refused(p *plan.Plan, allow []string) []string {
	var codes []string
	for _, f := range p.Findings {
		code := string(f.Code)
		if f.Severity == plan.Blocking && !slices.Contains(allow, code) && !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// ask asks a question on the terminal. Without one that is a usage error.
func (c *cli) ask(cmd *cobra.Command, question string) (bool, error) {
	if !terminal(c.stdin) || c.json {
		return false, &usageError{
			msg:  "there is no terminal to ask on",
			hint: fmt.Sprintf("Run '%s --auto-approve' to go ahead without a question, or --dry-run to only look.", cmd.CommandPath()),
		}
	}
	_, _ = fmt.Fprintf(c.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(c.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	_, _ = fmt.Fprintln(c.stderr, "Nothing was applied.")
	return false, nil
}

// devApplied tells what `dev` did when the YAML changed: the plan it applied, or why not.
func (c *cli) devApplied(p *plan.Plan, err error) {
	if err != nil {
		c.explain(describe(err))
		return
	}
	if !p.Empty() {
		c.printPlan(c.stderr, p)
	}
}
