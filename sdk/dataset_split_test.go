package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"
)

// TestExport builds a dataset in process, fetches it again by its ID, parts it, describes it and writes it in every format.
func TestExport(t *testing.T) {
	dir := openRepository(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	store, err := Open(dir, Environment("local"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	start := time.Date(2001, 6, 30, 0, 0, 0, 0, time.UTC)
	var b strings.Builder
	b.WriteString("origin,event_timestamp,label\n")
	for i := range 500 {
		fmt.Fprintf(&b, "A%d,%s,%v\n", i%50, start.Add(time.Duration(i)*time.Hour).Format(time.RFC3339), i%4 == 0)
	}
	var pushed []Values
	for i := range 50 {
		pushed = append(pushed, Values{"date": start, "origin": fmt.Sprint("A", i), "delay": int64(i)})
	}
	if _, err := store.Push(t.Context(), "departures", pushed); err != nil {
		t.Fatal(err)
	}
	spine := filepath.Join(dir, "spine.csv")
	if err := os.WriteFile(spine, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := store.BuildDataset(t.Context(), DatasetRequest{Service: "delay_model", Spine: CSVFile(spine), Name: "train", Pin: true})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := store.Dataset(t.Context(), built.ID())
	if err != nil {
		t.Fatal(err)
	}
	if ds.ID() != built.ID() || ds.Rows() != 500 {
		t.Errorf("fetched %s, %d rows", ds.ID(), ds.Rows())
	}
	var unknown *Error
	if _, err := store.Dataset(t.Context(), "none/such"); !errors.As(err, &unknown) || unknown.Code != "unknown_dataset" {
		t.Errorf("got %v", err)
	}

	// Parts: what is in them together is the whole, in order, and again the same.
	for name, split := range map[string]Split{
		"entity": SplitByEntity([]string{"origin"}, 0.8, 0.2),
		"time":   SplitByTime("event_timestamp", start.Add(400*time.Hour)),
	} {
		var first []string
		for range 2 {
			parts, err := ds.Split(split)
			if err != nil {
				t.Fatal(err)
			}
			var sizes []string
			rows := int64(0)
			for _, p := range parts {
				n := int64(0)
				for rec, err := range p.Records() {
					if err != nil {
						t.Fatal(err)
					}
					n += rec.NumRows()
				}
				if n != p.Rows() || p.ID() != ds.ID() {
					t.Errorf("%s: a part of %s says %d rows, has %d", name, p.ID(), p.Rows(), n)
				}
				rows += n
				sizes = append(sizes, fmt.Sprint(n))
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
			if rows != 500 || first != nil && fmt.Sprint(first) != fmt.Sprint(sizes) || name == "time" && sizes[0] != "400" {
				t.Errorf("%s: parts of %v rows, before %v", name, sizes, first)
			}
			first = sizes
		}
	}
	if _, err := ds.Split(SplitByTime("label", start)); err == nil {
		t.Error("a text was taken for an instant")
	}

	c, err := ds.Card("label")
	if err != nil {
		t.Fatal(err)
	}
	page, text := filepath.Join(dir, "card.html"), filepath.Join(dir, "card.json")
	if err := errors.Join(c.WriteHTMLFile(page), c.WriteJSONFile(text)); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(text)
	if err != nil {
		t.Fatal(err)
	}
	var card struct {
		Dataset string
		Rows    int64
		Label   struct {
			Classes []struct {
				Value string
				Count int64
			}
		}
	}
	if err := json.Unmarshal(raw, &card); err != nil || card.Dataset != ds.ID() || card.Rows != 500 || card.Label.Classes[0].Value != "false" || card.Label.Classes[0].Count != 375 {
		t.Errorf("%v\n%s", err, raw)
	}
	if _, err := ds.Card("nope"); err == nil {
		t.Error("described a label that is not there")
	}
	for _, write := range []struct {
		ext   string
		write func(string) error
	}{{"parquet", ds.WriteParquet}, {"arrow", ds.WriteArrow}, {"csv", ds.WriteCSV}} {
		path := filepath.Join(dir, "out."+write.ext)
		if err := write.write(path); err != nil {
			t.Errorf("%s: %v", write.ext, err)
		}
		if err := write.write(filepath.Join(dir, "no", "such", "folder."+write.ext)); err == nil {
			t.Errorf("%s: wrote into a folder that is not there", write.ext)
		}
	}
	found := false
	for rec, err := range ds.Records() {
		if err != nil {
			t.Fatal(err)
		}
		found = found || rec.Column(3).(*array.Int64).NullN() < int(rec.NumRows())
	}
	if !found {
		t.Error("no value was joined")
	}
	if err := errors.Join(ds.Close(), built.Close()); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "forebay-*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files were left: %v %v", left, err)
	}
}
