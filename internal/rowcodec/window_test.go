package rowcodec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry/feature"
)

// windowRecords are records of every shape.
var windowRecords = []struct {
	epoch, offset int64
	state         []byte
}{
	{0, 0, nil},
	{1_700_000_000_000_000, 0, []byte{1}},
	{1_700_000_000_000_000, 42, []byte("eleven byte")},
	{1_700_000_000_000_000, 42, []byte("twelve bytes")},
	{1_700_000_000_000_000, 43, bytes.Repeat([]byte{0}, 40)},
	{math.MaxInt64, math.MaxInt64, []byte("a state is whatever package window writes")},
}

var testWindows = NewWindows("p/v@1", []feature.Field{{Name: "count_1h", Type: feature.TypeInt64}})

func TestWindow(t *testing.T) {
	for _, w := range windowRecords {
		rec := testWindows.Append([]byte("before"), w.epoch, w.offset, w.state)[len("before"):]
		if n := len(w.state) + WindowOverhead; len(rec) != n {
			t.Errorf("%d bytes for a state of %d, want %d", len(rec), len(w.state), n)
		}
		epoch, offset, state, err := testWindows.Decode(rec)
		if err != nil || epoch != w.epoch || offset != w.offset || !bytes.Equal(state, w.state) {
			t.Errorf("%d, %d, %q, %v; want %d, %d, %q", epoch, offset, state, err, w.epoch, w.offset, w.state)
		}
		// Cut off anywhere, with something behind it, or with any bit turned.
		for n := range rec {
			if _, _, _, err := testWindows.Decode(rec[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut off after %d of %d bytes: %v", n, len(rec), err)
			}
		}
		if _, _, _, err := testWindows.Decode(append(bytes.Clone(rec), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a byte too many: %v", err)
		}
		for i := range 8 * len(rec) {
			bad := bytes.Clone(rec)
			bad[i/8] ^= 1 << (i % 8)
			if _, _, _, err := testWindows.Decode(bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKind) {
				t.Errorf("bit %d turned: %v", i, err)
			}
		}
	}
}

// TestWindowOrder: (epoch, offset) decides, compared as the stores do.
func TestWindowOrder(t *testing.T) {
	at := []int64{0, 1, 127, 128, 255, 256, 1 << 40, math.MaxInt64}
	var last []byte
	for _, epoch := range at {
		for _, offset := range at {
			// A state that decreases, so that what follows would say otherwise.
			rec := testWindows.Append(nil, epoch, offset, bytes.Repeat([]byte{byte(255 - len(last)%7)}, 20))
			if order := rec[1:17]; last != nil && bytes.Compare(order, last) <= 0 {
				t.Fatalf("(%d, %d) is not above the one before", epoch, offset)
			}
			last = bytes.Clone(rec[1:17])
		}
	}
}

// TestKindsAreToldApart: a reader that meets a record of the other kind says so.
func TestKindsAreToldApart(t *testing.T) {
	fields := []feature.Field{field("f", "float64")}
	codec := New("p/v@1", fields)
	col := feature.NewColumn("f", feature.TypeFloat64, 1)
	col.Append(feature.OfFloat64(1))
	newest, err := codec.Append(nil, version, []*feature.Column{col}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := testWindows.Decode(newest); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "a windowed view's") {
		t.Errorf("a newest row read as a windowed view's: %v", err)
	}
	for _, w := range windowRecords {
		if _, err := codec.Open(testWindows.Append(nil, w.epoch, w.offset, w.state)); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "a newest row's") {
			t.Errorf("a windowed view's read as a newest row: %v", err)
		}
	}
}

// Records of kind 2, whose checksum does not say what they are of, and of kind 3.
const (
	windowGolden         = "testdata/window-3.txt"
	windowGoldenUnscoped = "testdata/window-2.txt"
)

// TestWindowGolden: records that were written once are read for ever.
func TestWindowGolden(t *testing.T) {
	var text strings.Builder
	for _, w := range windowRecords {
		fmt.Fprintf(&text, "%d %d %x %x\n", w.epoch, w.offset, w.state, testWindows.Append(nil, w.epoch, w.offset, w.state))
	}
	if _, err := os.Stat(windowGolden); errors.Is(err, os.ErrNotExist) && *update {
		if err := os.WriteFile(windowGolden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{windowGolden, windowGoldenUnscoped} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == windowGolden && string(b) != text.String() {
			t.Errorf("records are encoded otherwise than in %s:\n%s", windowGolden, text.String())
		}
		for line := range strings.Lines(string(b)) {
			parts := strings.Split(strings.TrimSuffix(line, "\n"), " ")
			rec, err := hex.DecodeString(parts[3])
			if err != nil {
				t.Fatal(err)
			}
			epoch, offset, state, err := testWindows.Decode(rec)
			if err != nil || fmt.Sprintf("%d %d %x", epoch, offset, state) != strings.Join(parts[:3], " ") {
				t.Errorf("%s: %d, %d, %x, %v", line, epoch, offset, state, err)
			}
		}
	}
}

// TestWindowScope: a record is read as one of its own project, view, generation and features alone.
func TestWindowScope(t *testing.T) {
	fields := []feature.Field{{Name: "a", Type: feature.TypeInt64}, {Name: "b", Type: feature.TypeFloat64}}
	rec := NewWindows("p/v@1", fields).Append(nil, 1, 2, []byte("state"))
	for _, same := range [][]feature.Field{fields, {fields[1], fields[0]}} {
		if _, _, _, err := NewWindows("p/v@1", same).Decode(rec); err != nil {
			t.Error(err)
		}
	}
	for name, other := range map[string]*WindowCodec{
		"project":    NewWindows("q/v@1", fields),
		"generation": NewWindows("p/v@2", fields),
		"feature":    NewWindows("p/v@1", fields[:1]),
		"type":       NewWindows("p/v@1", []feature.Field{fields[0], {Name: "b", Type: feature.TypeInt64}}),
	} {
		if _, _, _, err := other.Decode(rec); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "another view") {
			t.Errorf("of another %s: %v", name, err)
		}
	}
}

func FuzzWindow(f *testing.F) {
	for _, w := range windowRecords {
		f.Add(testWindows.Append(nil, w.epoch, w.offset, w.state))
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		epoch, offset, state, err := testWindows.Decode(rec)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKind) {
				t.Fatalf("an error that has no name: %v", err)
			}
			return
		}
		if again := testWindows.Append(nil, epoch, offset, state); rec[0] == KindWindow && !bytes.Equal(again, rec) {
			t.Fatalf("%x is written again as %x", rec, again)
		}
	})
}
