package files

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// python finds a Python with pyarrow, duckdb and polars; "" if there is none.
func python() string {
	for _, p := range []string{os.Getenv("FOREBAY_TEST_PYTHON"), "../../.cache/venv/bin/python"} {
		if _, err := os.Stat(p); p != "" && err == nil {
			return p
		}
	}
	return ""
}

// TestOthersReadWhatWeWrite lets other engines compare what was written with what
// it was copied from.
func TestOthersReadWhatWeWrite(t *testing.T) {
	py := python()
	if py == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Python with pyarrow, duckdb and polars: set FOREBAY_TEST_PYTHON")
		}
		t.Skip("no Python with pyarrow, duckdb and polars: set FOREBAY_TEST_PYTHON")
	}
	dir := t.TempDir()
	out, arrow := filepath.Join(dir, "out.parquet"), filepath.Join(dir, "out.arrow")
	copySpine(t, at(t, "testdata/types_pyarrow.parquet"), out)
	copySpine(t, at(t, "testdata/types_pyarrow.parquet"), arrow)
	const script = `
import sys, duckdb, polars as pl, pyarrow.parquet as pq, pyarrow.feather as feather
was, out, arrow = sys.argv[1:]
plain = lambda s: s.remove_metadata()
a, b, c = pq.read_table(was, arrow_extensions_enabled=False), pq.read_table(out), feather.read_table(arrow)
def text(t): return [[repr(v) for v in col.to_pylist()] for col in t.columns]
assert text(a) == text(b), "pyarrow reads other values"
assert text(a) == text(c), "pyarrow reads other values of the Arrow file"
def logical(c): # INT32 and INT64 mean the same with the annotation of their width as without
    l = str(c.logical_type)
    return "None" if l in ("Int(bitWidth=32, isSigned=true)", "Int(bitWidth=64, isSigned=true)") else l
kinds = lambda path: [(str(c.physical_type) if logical(c) == "None" else "", logical(c), c.path) for c in map(pq.ParquetFile(path).schema.column, range(len(pq.ParquetFile(path).schema)))]
for x, y in zip(kinds(was), kinds(out)):
    assert x[:2] == y[:2], (x, y)
assert pq.ParquetFile(out).metadata.row_group(0).column(0).compression == "SNAPPY"
duck = lambda path: duckdb.sql(f"select columns(*)::varchar from read_parquet('{path}')").fetchall()
assert duck(was) == duck(out), "duckdb reads other values"
assert repr(pl.read_parquet(was).rows()) == repr(pl.read_parquet(out).rows()), "polars"
`
	cmd := exec.CommandContext(t.Context(), py, "-c", script, "testdata/types_pyarrow.parquet", out, arrow)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}

}
