package files

import (
	"fmt"
	"strings"
	"testing"
)

// Bools in runs are a trap of the Parquet library: see rleBools.
func TestBoolsInRuns(t *testing.T) {
	text, _ := spineText(t, at(t, "testdata/bools_rle.parquet"))
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 10_000 {
		t.Fatalf("%d rows", len(lines))
	}
	for i, line := range lines {
		b := fmt.Sprint(i/7%3 == 0)
		if i%11 == 0 {
			b = "null"
		}
		if want := fmt.Sprintf(`{"b":%s,"l":[%s,%s]}`, b, b, b); line != want {
			t.Fatalf("row %d is %s, want %s", i, line, want)
		}
	}
}
