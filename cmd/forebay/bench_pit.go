package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/internal/bench"
)

// benchPIT is a run of `forebay bench pit`.
type benchPIT struct {
	c        *cli
	rows     int
	entities int
	features int
	spine    int
	windows  bool
}

type pitDocument struct {
	Machine  benchMachine `json:"machine"`
	Rows     int          `json:"rows"`
	Entities int          `json:"entities"`
	Features int          `json:"features"`
	Spine    int          `json:"spine"`
	Windows  bool         `json:"windows"`
	// Steps are what was done, with the time it took.
	Steps []pitStep `json:"steps"`
}

type pitStep struct {
	Step    string  `json:"step"`
	Rows    int     `json:"rows"`
	Seconds float64 `json:"seconds"`
}

func (c *cli) benchPITCommand() *cobra.Command {
	b := &benchPIT{c: c}
	cmd := &cobra.Command{
		Use:   "pit",
		Short: "The point-in-time join",
		Long: `Ingests synthetic rows and joins a random spine with them, twice: the first join derives the
sorted table as well. Beside it stands the floor: to read the bytes of the tables once and
write those of the result. With --windows the features are windows: the rows' count, and of
each column the sum, mean and greatest over 1h, 24h, 7d and 30d.`,
		Args: args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if min(b.rows, b.entities, b.features, b.spine) < 1 {
			return usage(cmd, "--rows, --entities, --features and --spine must be positive")
		}
		return b.run(cmd.Context())
	}
	f := cmd.Flags()
	f.IntVar(&b.rows, "rows", 500000, "rows of history")
	f.IntVar(&b.entities, "entities", 50000, "entities they are of")
	f.IntVar(&b.features, "features", 8, "float64 columns")
	f.IntVar(&b.spine, "spine", 100000, "rows of the spine")
	f.BoolVar(&b.windows, "windows", false, "windows of the columns rather than newest rows")
	return cmd
}

// pitDays is the time that the rows of a join are spread over.
const pitDays = 90

func (b *benchPIT) run(ctx context.Context) (err error) {
	s := bench.Synthetic{Widths: []int{b.features}, Entities: b.entities, Rows: b.rows, Days: pitDays, Windows: b.windows}
	r, err := b.c.synthesize(ctx, benchStore{embedded: true}, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	spine, out := filepath.Join(r.dir, "spine.csv"), filepath.Join(r.dir, "train.parquet")
	if err := s.WriteSpine(spine, b.spine); err != nil {
		return err
	}
	doc := pitDocument{Machine: thisMachine(), Rows: b.rows, Entities: b.entities, Features: b.features, Spine: b.spine, Windows: b.windows}
	step := func(name string, rows int, run func() error) error {
		p := b.c.startProgress(name, "rows")
		defer p.stop()
		start := time.Now()
		err := run()
		doc.Steps = append(doc.Steps, pitStep{name, rows, time.Since(start).Seconds()})
		return err
	}
	err = r.with(ctx, b.c, func(a *app.App) error {
		join := func() error {
			var d api.Dataset
			d, err := a.BuildDataset(ctx, app.DatasetOptions{Service: bench.Service(b.features), Spine: spine, Out: out})
			if err == nil && d.Rows != int64(b.spine) {
				err = errors.New("bench: the result has not as many rows as the spine")
			}
			return err
		}
		if err := step("ingest (CSV)", b.rows, func() error {
			_, err := a.Ingest(ctx, app.IngestOptions{Source: bench.Source(b.features)})
			return err
		}); err != nil {
			return err
		}
		if err := step("first join, derives the table", b.spine, join); err != nil {
			return err
		}
		return step("join", b.spine, join)
	})
	if err != nil {
		return err
	}
	if err := step("floor: read the tables, write the result", b.spine, func() error { return ioFloor(filepath.Join(r.dir, ".forebay", "offline"), out) }); err != nil {
		return err
	}
	if b.c.json {
		return b.c.document(doc)
	}
	t := newTable("STEP", ">ROWS", ">TIME", ">RATE")
	for _, s := range doc.Steps {
		t.add(s.Step, s.Rows, span(seconds(s.Seconds)), rate(int64(s.Rows), seconds(s.Seconds)))
	}
	b.c.print(t)
	return nil
}

// ioFloor reads the Parquet files below a folder and writes a copy of another file.
func ioFloor(tables, result string) error {
	if err := filepath.WalkDir(tables, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".parquet" {
			return err
		}
		f, err := os.Open(path) //nolint:gosec // in the run's own folder
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, bufio.NewReaderSize(f, 1<<20))
		return errors.Join(err, f.Close())
	}); err != nil {
		return err
	}
	written, err := os.ReadFile(result) //nolint:gosec // in the run's own folder
	if err != nil {
		return err
	}
	return os.WriteFile(result+".copy", bytes.Clone(written), 0o600)
}
