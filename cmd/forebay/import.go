package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/internal/feast"
	"github.com/forebay/forebay/registry/spec"
)

func (c *cli) importCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Take definitions over from another feature store"}
	return subcommands(cmd, c.importFeastCommand())
}

// feastDefinitions is the file that definitions are written to.
const feastDefinitions = "feast.yaml"

func (c *cli) importFeastCommand() *cobra.Command {
	var project string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "feast DIR",
		Short: "YAML from a Feast repository's registry",
		Long: `Reads the registry file of the Feast repository in DIR (DIR may be that file itself) and writes what
it declares to feast.yaml of this feature repository, with a forebay.yaml where there is none. It says
what could not be carried over: transformations in Python above all. Nothing is overwritten.`,
		Example: "  forebay -C features import feast ../feast_repo/feature_repo && forebay -C features validate",
		Args:    args(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			return c.importFeast(args[0], project, dryRun)
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "project of the registry, where it has several")
	dryRunFlag(cmd, &dryRun, "print the YAML, and write nothing")
	return cmd
}

func (c *cli) importFeast(dir, project string, dryRun bool) error {
	path, root, err := feastRegistry(dir)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path) //nolint:gosec // the user's own
	if err != nil {
		return fmt.Errorf("the registry of Feast: %w", err)
	}
	from, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	out, err := filepath.Abs(c.dir)
	if err != nil {
		return err
	}
	converted, err := feast.Convert(content, feast.Options{Project: project, Dir: from, Out: out})
	if err != nil {
		hint := ""
		if errors.Is(err, feast.ErrRegistry) {
			hint = "Only registry files (registry_type: file) can be read. Of another kind make one: set `registry: registry.db` in a copy of feature_store.yaml and run `feast apply` there."
		}
		return &app.Error{Err: fmt.Errorf("%s: %w", path, err), Hint: hint}
	}
	var written []string
	if !dryRun {
		if written, err = writeConverted(c.dir, converted); err != nil {
			return err
		}
	}
	if c.json {
		return c.document(struct {
			DryRun      bool         `json:"dry_run,omitempty"`
			Project     string       `json:"project"`
			Files       []string     `json:"files"`
			Counts      feast.Counts `json:"counts"`
			Notes       []feast.Note `json:"notes"`
			Definitions string       `json:"definitions"`
		}{dryRun, converted.Project, append([]string{}, written...), converted.Counts, append([]feast.Note{}, converted.Notes...), string(converted.Definitions)})
	}
	if dryRun {
		c.printf("%s", converted.Definitions)
	}
	c.notes(converted)
	if dryRun {
		return nil
	}
	n := converted.Counts
	c.printf("%s, %s, %s and %s of project %s in %s\nNext: forebay validate, and docs/feast.md on moving from Feast\n",
		plural(int64(n.Entities), "entity"), plural(int64(n.Sources), "source"), plural(int64(n.Views), "view"), plural(int64(n.Services), "service"), converted.Project, strings.Join(written, " and "))
	return nil
}

// notes says what could not be carried over, then what has changed.
func (c *cli) notes(converted *feast.Converted) {
	for _, lost := range []bool{true, false} {
		style, word := yellow, "changed:"
		if lost {
			style, word = red, "not carried over:"
		}
		for _, n := range converted.Notes {
			if n.Lost == lost {
				fmt.Fprintf(c.stderr, "%s %s %s: %s\n", c.paint(c.stderr, style, word), n.Kind, n.Name, n.Message)
			}
		}
	}
}

// feastRegistry finds the registry file of a Feast repository, and the folder to which its paths are relative.
func feastRegistry(dir string) (path, root string, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", "", fmt.Errorf("the Feast repository: %w", err)
	}
	if !info.IsDir() {
		return dir, filepath.Dir(dir), nil
	}
	for _, root := range []string{dir, filepath.Join(dir, "feature_repo")} {
		candidates := []string{filepath.Join("data", "registry.db"), "registry.db"}
		if settings, err := os.ReadFile(filepath.Join(root, "feature_store.yaml")); err == nil { //nolint:gosec // the user's own
			if named := registryPath(settings); named != "" {
				candidates = []string{named}
			}
		}
		for _, path := range candidates {
			if !filepath.IsAbs(path) {
				path = filepath.Join(root, path)
			}
			if _, err := os.Stat(path); err == nil {
				return path, root, nil
			}
		}
	}
	return "", "", &app.Error{
		Err:  fmt.Errorf("%s: no registry file is there (%w)", dir, fs.ErrNotExist),
		Hint: "It is what `registry:` in feature_store.yaml names, made by `feast apply`. Name the file itself if it lies elsewhere.",
	}
}

// registryPath is the path of a file that feature_store.yaml names as its registry:
// "registry: path", or "path: path" below "registry:". "" where it names none.
func registryPath(settings []byte) string {
	inside := false
	lines := bufio.NewScanner(bytes.NewReader(settings))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), " #")
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		top := line == strings.TrimLeft(line, " \t")
		switch {
		case !ok:
		case top && key == "registry" && value != "":
			return value
		case top:
			inside = key == "registry"
		case inside && key == "path":
			return value
		}
	}
	return ""
}

// writeConverted writes the files of a repository, none over another. It returns their names.
func writeConverted(dir string, converted *feast.Converted) (written []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the user's
		return nil, err
	}
	add := func(name string, content []byte) error {
		path := filepath.Join(dir, name)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // a file of the user's
		if errors.Is(err, fs.ErrExist) {
			return &app.Error{Code: "exists", Err: fmt.Errorf("%s is there already", path), Hint: "Move it away, give another folder with -C, or look at the YAML with --dry-run."}
		}
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		written = append(written, path)
		return nil
	}
	if err := add(feastDefinitions, converted.Definitions); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, spec.SettingsFile)); errors.Is(err, fs.ErrNotExist) {
		return written, add(spec.SettingsFile, converted.Settings)
	}
	return written, nil
}
