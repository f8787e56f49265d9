package card

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "delay", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "count", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "late", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "none", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
}, nil)

// rows are n rows in batches of a size.
func rows(n, size int) func() iter.Seq2[arrow.Record, error] {
	return func() iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) {
			for from := 0; from < n; from += size {
				b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
				for i := from; i < min(n, from+size); i++ {
					b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i * 1e6))
					d := b.Field(1).(*array.Float64Builder)
					switch i % 10 {
					case 3:
						d.AppendNull()
					case 4:
						d.Append(math.NaN())
					default:
						d.Append(float64(i % 10))
					}
					b.Field(2).(*array.Int64Builder).Append(int64(i))
					b.Field(3).(*array.StringBuilder).Append([]string{"<a&b>", "b"}[min(1, i%4)])
					if i%5 == 0 {
						b.Field(4).AppendNull()
					} else {
						b.Field(4).(*array.BooleanBuilder).Append(i%5 == 1)
					}
					b.Field(5).AppendNull()
				}
				if !yield(b.NewRecord(), nil) {
					return
				}
			}
		}
	}
}

func TestCard(t *testing.T) {
	var first []byte
	for _, size := range []int{7, 1000} {
		c, err := Make(rows(1000, size), "late")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := c.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		} else if !bytes.Equal(first, b.Bytes()) {
			t.Error("the card depends on how rows are cut into batches")
		}
		delay := c.Columns[1]
		if delay.Nulls != 100 || delay.NaNs != 100 || delay.Min != "0" || delay.Max != "9" || math.Abs(*delay.Mean-4.75) > 1e-12 || len(delay.Histogram) != Bins {
			t.Errorf("got %+v", delay)
		}
		sum := int64(0)
		for _, bin := range delay.Histogram {
			sum += bin.Count
		}
		if sum != 800 || delay.Histogram[0].Count != 100 || delay.Histogram[Bins-1].Count != 100 {
			t.Errorf("got %v", delay.Histogram)
		}
		if at := c.Columns[0]; at.Min != "1970-01-01T00:00:00Z" || at.Max != "1970-01-01T00:16:39Z" || at.Mean != nil {
			t.Errorf("got %+v", at)
		}
		if k := c.Columns[2]; k.Distinct != 1000 || len(k.Top) != topCount {
			t.Errorf("got %+v", k)
		}
		if n := c.Columns[3]; n.Distinct != 2 || n.Top[0] != (Count{"b", 750}) {
			t.Errorf("got %+v", n)
		}
		if none := c.Columns[5]; none.Nulls != 1000 || none.Histogram != nil || none.Mean != nil {
			t.Errorf("got %+v", none)
		}
		if c.Label.Nulls != 200 || len(c.Label.Classes) != 2 || c.Label.Classes[0] != (Count{"false", 600}) {
			t.Errorf("got %+v", c.Label)
		}
	}
	if !json.Valid(first) {
		t.Error("not JSON")
	}
}

func TestHTML(t *testing.T) {
	c, err := Make(rows(1000, 100), "late")
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Dataset = "train & test", "sha256:abc"
	var b bytes.Buffer
	if err := c.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{"train &amp; test", "1\u202f000 rows", "&lt;a&amp;b&gt;", "600 (75.0%)", "200 rows without a class", "<svg", "0 to 0.45: 100", "4.75"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, foreign := range []string{"http:", "https:", "<script", "src=", "@import", "ZgotmplZ"} {
		if strings.Contains(page, foreign) {
			t.Errorf("the page has %q", foreign)
		}
	}
}

func TestRefused(t *testing.T) {
	if _, err := Make(rows(10, 10), "nope"); !errors.Is(err, ErrNoColumn) {
		t.Errorf("got %v", err)
	}
	if _, err := Make(rows(1001, 10), "count"); !errors.Is(err, ErrNoClasses) {
		t.Errorf("got %v", err)
	}
	if c, err := Make(rows(0, 10), ""); err != nil || c.Rows != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
}
