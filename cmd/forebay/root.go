package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes. They are part of the command line's contract (docs/cli.md).
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitFindings = 3 // plan found blocking findings
)

// cli is what every command has: where it reads and writes, and the global flags.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string

	dir         string // -C: the root of the feature repository
	environment string // -e: "" is the default environment
	json        bool   // --json: one JSON document on stdout
	verbose     bool   // -v: log at debug level

	printed bool // the JSON document has been written
}

// run runs one command line and returns the exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !c.json {
		// Cobra fails before it has parsed the flags of a command that does not exist.
		for _, a := range args {
			if a == "--json" {
				c.json = true
			}
		}
	}
	return c.finish(ctx, err)
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "forebay",
		Short: "A feature store in one binary",
		Long: `Forebay keeps features ready for models: declared in YAML, computed from Kafka
streams and Parquet history, served online, and joined point-in-time-correctly
for training, from one definition with one meaning.

Start with:  forebay demo        the whole path on real flights, nothing to install
             forebay init DIR    a repository of your own`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			msg := fmt.Sprintf("unknown command %q", args[0])
			hint := "Run 'forebay --help' for the commands."
			if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
				hint = fmt.Sprintf("Did you mean '%s'? %s", s[0], hint)
			}
			return &usageError{msg: msg, hint: hint}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	flags := root.PersistentFlags()
	flags.StringVarP(&c.dir, "dir", "C", ".", "root of the feature repository (where forebay.yaml lies)")
	flags.StringVarP(&c.environment, "env", "e", "", "environment of forebay.yaml (default: local, or the only one)")
	flags.BoolVar(&c.json, "json", false, "print one JSON document instead of text")
	flags.BoolVarP(&c.verbose, "verbose", "v", false, "log what is being done")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(cmd, "%s", err)
	})
	root.AddGroup(
		&cobra.Group{ID: "define", Title: "Define features:"},
		&cobra.Group{ID: "move", Title: "Move data:"},
		&cobra.Group{ID: "use", Title: "Use features:"},
		&cobra.Group{ID: "keep", Title: "Keep it in shape:"},
		&cobra.Group{ID: "try", Title: "Try it:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("define", c.initCommand(), c.validateCommand(), c.testCommand(), c.planCommand(), c.applyCommand(), c.registryCommand(), c.importCommand())
	add("move", c.ingestCommand(), c.materializeCommand(), c.streamCommand(), c.pushCommand())
	add("use", c.serveCommand(), c.getCommand(), c.datasetCommand(), c.verifyCommand(), c.generationCommand(), c.statusCommand())
	add("keep", c.maintainCommand(), c.onlineCommand())
	add("try", c.demoCommand(), c.devCommand(), c.benchCommand())
	root.AddCommand(c.versionCommand())
	return root
}

// args makes a check of the number of arguments a usage error. want describes
// them as the usage line does.
func args(minimum, maximum int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < minimum:
			_, want, _ := strings.Cut(cmd.Use, " ")
			return usage(cmd, "%s wants %s", cmd.CommandPath(), want)
		case maximum >= 0 && len(args) > maximum:
			return usage(cmd, "%s: unexpected argument %q", cmd.CommandPath(), args[maximum])
		}
		return nil
	}
}

// subcommands makes a command that only groups others: without one of them it
// prints its help, with an unknown one it is a usage error.
func subcommands(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(cmd, "unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subs...)
	return cmd
}

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ msg, hint string }

func (e *usageError) Error() string { return e.msg }

// usage makes a usageError that points at the command's help.
func usage(cmd *cobra.Command, format string, a ...any) error {
	return &usageError{
		msg:  fmt.Sprintf(format, a...),
		hint: fmt.Sprintf("Run '%s --help' for usage.", cmd.CommandPath()),
	}
}

// errFindings ends a plan that printed blocking findings.
var errFindings = errors.New("blocking findings")

// errReported ends a command that has said itself what failed.
var errReported = errors.New("failed")

// logger is the log of a command: on stderr, warnings only unless the command
// is one that runs until it is stopped, or -v asks for everything.
func (c *cli) logger(level slog.Level) *slog.Logger {
	if c.verbose {
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.json {
		return slog.New(slog.NewJSONHandler(c.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(c.stderr, opts))
}
