package bench

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Synthetic is a feature repository of random float64 features: a source and a
// view of each width, stats_50 of service all_50, for entities numbered from 0.
type Synthetic struct {
	Project  string
	Widths   []int // features of each view
	Entities int
	// Rows is how many rows each source has, spread over the entities and over
	// Days. Default: one for each entity.
	Rows int
	Days int // default 1
	// Windows makes the views aggregate their columns, rather than take the newest row.
	Windows bool
	// Brokers are Kafka's, "embedded" for the one in process: each source has a topic then, named as
	// the project and the source, with a dot between, and keyed by the entity.
	Brokers []string
	// Online is the online section of the environment, as YAML has it: "{store: embedded}".
	Online string
}

// seed makes every run's values the same.
const seed = 7

// First is the instant from which on the rows are.
var First = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Source is the name of the source of a width.
func Source(width int) string { return "rows_" + strconv.Itoa(width) }

// Service is the name of the service of a width.
func Service(width int) string { return "all_" + strconv.Itoa(width) }

// View is the name of the view of a width.
func View(width int) string { return "stats_" + strconv.Itoa(width) }

// Entity is an entity of a lookup, as JSON.
func Entity(dst []byte, number int) []byte {
	dst = append(dst, `{"user_id":`...)
	return append(strconv.AppendInt(dst, int64(number), 10), '}')
}

// Write writes the repository's YAML and the rows, as CSV, into a folder.
func (s Synthetic) Write(dir string) error {
	settings := fmt.Sprintf("version: 1\nproject: %s\nenvironments:\n  local:\n    registry: file://./.forebay/registry\n    offline: {store: parquet, url: \"file://./.forebay/offline\"}\n    online: %s\n", s.Project, s.Online)
	if len(s.Brokers) > 0 {
		path := ""
		if s.Brokers[0] == "embedded" {
			path = ", path: ./.forebay/stream"
		}
		settings += fmt.Sprintf("    stream: {brokers: [\"%s\"]%s}\n", strings.Join(s.Brokers, `", "`), path)
	}
	if err := os.WriteFile(filepath.Join(dir, "forebay.yaml"), []byte(settings), 0o600); err != nil {
		return err
	}
	text := []byte("kind: Entity\nname: user\njoin_keys: [{name: user_id, type: int64}]\n")
	for _, w := range s.Widths {
		text = fmt.Appendf(text, "---\nkind: Source\nname: %s\ntimestamp: at\nfiles: {glob: %s.csv}\ncolumns:\n  user_id: int64\n  at: timestamp\n", Source(w), Source(w))
		for f := range w {
			text = fmt.Appendf(text, "  f%d: float64\n", f)
		}
		if len(s.Brokers) > 0 {
			text = fmt.Appendf(text, "kafka: {topic: %s.%s, format: json, key: [user_id]}\n", s.Project, Source(w))
		}
		text = fmt.Appendf(text, "---\nkind: FeatureView\nname: %s\nentities: [user]\nsource: %s\n", View(w), Source(w))
		if s.Windows {
			text = append(text, "aggregations:\n  - {function: count, windows: [1h, 24h, 7d, 30d]}\n"...)
		} else {
			text = append(text, "features:\n"...)
		}
		for f := range w {
			if !s.Windows {
				text = fmt.Appendf(text, "  - {name: f%d, type: float64, expr: f%d}\n", f, f)
				continue
			}
			for _, fn := range []string{"sum", "mean", "max"} {
				text = fmt.Appendf(text, "  - {function: %s, column: f%d, windows: [1h, 24h, 7d, 30d]}\n", fn, f)
			}
		}
		text = fmt.Appendf(text, "---\nkind: FeatureService\nname: %s\nfeatures: [%s]\n", Service(w), View(w))
		if err := s.rows(filepath.Join(dir, Source(w)+".csv"), w); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "features.yaml"), text, 0o600)
}

// rows writes the rows of one source in the order of their instants.
func (s Synthetic) rows(path string, width int) error {
	n, span := s.Rows, time.Duration(max(s.Days, 1))*24*time.Hour
	if n == 0 {
		n = s.Entities
	}
	random := rand.New(rand.NewPCG(seed, uint64(width))) //nolint:gosec // data for a benchmark
	return writeCSV(path, func(out *bufio.Writer) {
		line := []byte("user_id,at")
		for f := range width {
			line = fmt.Appendf(line, ",f%d", f)
		}
		_, _ = out.Write(append(line, '\n')) // the writer keeps its error
		for i := range n {
			user := i
			if n != s.Entities {
				user = random.IntN(s.Entities)
			}
			line = strconv.AppendInt(line[:0], int64(user), 10)
			line = append(line, ',')
			line = First.Add(time.Duration(float64(i)/float64(n)*float64(span))).AppendFormat(line, time.RFC3339Nano)
			for range width {
				line = strconv.AppendFloat(append(line, ','), random.Float64(), 'g', -1, 64)
			}
			_, _ = out.Write(append(line, '\n'))
		}
	})
}

// WriteSpine writes n spine rows at random instants of the rows' time, for random entities.
func (s Synthetic) WriteSpine(path string, n int) error {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // data for a benchmark
	span := float64(max(s.Days, 1)) * float64(24*time.Hour)
	return writeCSV(path, func(out *bufio.Writer) {
		line := []byte("user_id,event_timestamp\n")
		for range n {
			_, _ = out.Write(line) // the writer keeps its error
			line = strconv.AppendInt(line[:0], int64(random.IntN(s.Entities)), 10)
			line = append(line, ',')
			line = append(First.Add(time.Duration(random.Float64()*span)).AppendFormat(line, time.RFC3339Nano), '\n')
		}
		_, _ = out.Write(line)
	})
}

func writeCSV(path string, write func(*bufio.Writer)) error {
	f, err := os.Create(path) //nolint:gosec // in the run's own folder
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	write(out)
	return errors.Join(out.Flush(), f.Close())
}
