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

func TestWindow(t *testing.T) {
	for _, w := range windowRecords {
		rec := AppendWindow([]byte("before"), w.epoch, w.offset, w.state)[len("before"):]
		if n := len(w.state) + WindowOverhead; len(rec) != n {
			t.Errorf("%d bytes for a state of %d, want %d", len(rec), len(w.state), n)
		}
		epoch, offset, state, err := DecodeWindow(rec)
		if err != nil || epoch != w.epoch || offset != w.offset || !bytes.Equal(state, w.state) {
			t.Errorf("%d, %d, %q, %v; want %d, %d, %q", epoch, offset, state, err, w.epoch, w.offset, w.state)
		}
		// Cut off anywhere, with something behind it, or with any bit turned.
		for n := range rec {
			if _, _, _, err := DecodeWindow(rec[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut off after %d of %d bytes: %v", n, len(rec), err)
			}
		}
		if _, _, _, err := DecodeWindow(append(bytes.Clone(rec), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a byte too many: %v", err)
		}
		for i := range 8 * len(rec) {
			bad := bytes.Clone(rec)
			bad[i/8] ^= 1 << (i % 8)
			if _, _, _, err := DecodeWindow(bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKind) {
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
			rec := AppendWindow(nil, epoch, offset, bytes.Repeat([]byte{byte(255 - len(last)%7)}, 20))
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
	if _, _, _, err := DecodeWindow(newest); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "a windowed view's") {
		t.Errorf("a newest row read as a windowed view's: %v", err)
	}
	for _, w := range windowRecords {
		if _, err := codec.Open(AppendWindow(nil, w.epoch, w.offset, w.state)); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "a newest row's") {
			t.Errorf("a windowed view's read as a newest row: %v", err)
		}
	}
}

const windowGolden = "testdata/window-2.txt"

// TestWindowGolden: records that were written once are read for ever.
func TestWindowGolden(t *testing.T) {
	var text strings.Builder
	for _, w := range windowRecords {
		fmt.Fprintf(&text, "%d %d %x %x\n", w.epoch, w.offset, w.state, AppendWindow(nil, w.epoch, w.offset, w.state))
	}
	if _, err := os.Stat(windowGolden); errors.Is(err, os.ErrNotExist) && *update {
		if err := os.WriteFile(windowGolden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(windowGolden)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != text.String() {
		t.Errorf("records are encoded otherwise than in %s:\n%s", windowGolden, text.String())
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		rec, err := hex.DecodeString(parts[3])
		if err != nil {
			t.Fatal(err)
		}
		epoch, offset, state, err := DecodeWindow(rec)
		if err != nil || fmt.Sprintf("%d %d %x", epoch, offset, state) != strings.Join(parts[:3], " ") {
			t.Errorf("%s: %d, %d, %x, %v", line, epoch, offset, state, err)
		}
	}
}

func FuzzWindow(f *testing.F) {
	for _, w := range windowRecords {
		f.Add(AppendWindow(nil, w.epoch, w.offset, w.state))
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		epoch, offset, state, err := DecodeWindow(rec)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKind) {
				t.Fatalf("an error that has no name: %v", err)
			}
			return
		}
		if again := AppendWindow(nil, epoch, offset, state); !bytes.Equal(again, rec) {
			t.Fatalf("%x is written again as %x", rec, again)
		}
	})
}
