package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
)

// template is the repository that init writes: the files as they are, except
// that gitignore becomes .gitignore and instants such as @-36h become dates, so
// that the example's data is young on the day it is tried.
//
//go:embed template
var template embed.FS

func (c *cli) initCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a new repository with a runnable example",
		Long: `Writes a feature repository with a small runnable example: definitions, a
few hundred bytes of data, and environments. It never overwrites a file.`,
		Args: args(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := c.dir
			if len(args) == 1 {
				dir = filepath.Join(c.dir, args[0])
				if filepath.IsAbs(args[0]) {
					dir = args[0]
				}
			}
			return c.initRepository(dir, dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say which files would be written, and write none")
	return cmd
}

// initialised is what `forebay init` prints with --json.
type initialised struct {
	Dir    string   `json:"dir"`
	Files  []string `json:"files"`
	DryRun bool     `json:"dry_run,omitempty"`
}

func (c *cli) initRepository(dir string, dryRun bool) error {
	files, err := templateFiles(time.Now())
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.path)); err == nil {
			return &app.Error{
				Code: "exists",
				Err:  fmt.Errorf("%s is there already; init overwrites nothing", filepath.Join(dir, f.path)),
				Hint: "Give another folder: forebay init DIR",
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("init: %w", err)
		}
	}
	done := initialised{Dir: dir, DryRun: dryRun}
	for _, f := range files {
		done.Files = append(done.Files, f.path)
		if dryRun {
			continue
		}
		if err := writeNew(filepath.Join(dir, f.path), f.text); err != nil {
			return fmt.Errorf("init: %w", err)
		}
	}
	if c.json {
		return c.document(done)
	}
	verb := "Wrote"
	if dryRun {
		verb = "Would write"
	}
	c.printf("%s %s into %s:\n", verb, plural(int64(len(files)), "file"), dir)
	for _, f := range files {
		c.printf("  %-22s %s\n", f.path, f.about)
	}
	if dryRun {
		return nil
	}
	at := ""
	if dir != "." {
		at = "  cd " + dir + "\n"
	}
	c.printf(`
Next:
%s  forebay validate
  forebay test
  forebay apply
  forebay ingest orders
  forebay materialize
  forebay get --service offer customer_id=17 basket=120.0
  forebay dataset build --service offer --spine data/spine.csv --out train.csv
`, at)
	return nil
}

// templateFile is one file that init writes.
type templateFile struct {
	path  string // relative to the repository's root
	about string
	text  []byte
}

var ago = regexp.MustCompile(`@-([0-9]+h)`)

// templateFiles are the files of the template with their instants filled in,
// relative to the full hour before now.
func templateFiles(now time.Time) ([]templateFile, error) {
	about := map[string]string{
		"forebay.yaml":            "where the stores are, per environment",
		"features.yaml":           "entity, source, views and service",
		"data/orders.csv":         "history of the source",
		"tests/last_order.pit":    "what is expected of the features: forebay test",
		"tests/recent_orders.pit": "and of its windows",
		"data/spine.csv":          "rows to enrich for training",
		".gitignore":              "keeps the local stores out of Git",
	}
	now = now.UTC().Truncate(time.Hour)
	var files []templateFile
	err := fs.WalkDir(template, "template", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := template.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "template/")
		if name == "gitignore" {
			name = ".gitignore"
		}
		text = ago.ReplaceAllFunc(text, func(m []byte) []byte {
			d, err := time.ParseDuration(string(m[2:]))
			if err != nil {
				return m
			}
			return now.Add(-d).AppendFormat(nil, time.RFC3339)
		})
		files = append(files, templateFile{path: name, about: about[name], text: text})
		return nil
	})
	return files, err
}

// writeNew writes a file that must not be there, and the folders above it.
func writeNew(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
