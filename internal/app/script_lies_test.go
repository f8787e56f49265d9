package app

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/forebay/forebay/internal/pitscript"
	"github.com/forebay/forebay/registry/feature"
)

// liar is an engine whose every answer is wrong: each value has another status, refusals are one more, and
// errors are none.
type liar struct{ pitscript.Engine }

func (l liar) Lookup(ctx context.Context, q pitscript.Lookup) (*pitscript.Answer, error) {
	a, err := l.Engine.Lookup(ctx, q)
	if err != nil {
		return a, err
	}
	for i := range a.Statuses {
		wrong := make([]feature.Status, len(a.Statuses[i]))
		for row, s := range a.Statuses[i] {
			if wrong[row] = feature.OutsideMaxAge; s == feature.OutsideMaxAge {
				wrong[row] = feature.Present
			}
		}
		a.Statuses[i] = wrong
	}
	return a, nil
}

func (l liar) Refused(ctx context.Context) (map[pitscript.Refusal]int64, error) {
	refused, err := l.Engine.Refused(ctx)
	for of := range refused {
		refused[of]++
	}
	return refused, err
}

// TestScriptsCanFail: each expectation of each script is reported when it is not met.
func TestScriptsCanFail(t *testing.T) {
	roots, err := filepath.Glob("testdata/scripts/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		w := newScriptWorld(t, root)
		files, err := filepath.Glob(filepath.Join(root, "tests", "*.pit"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			t.Run(file, func(t *testing.T) {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				p := w.compile(t, file, string(text))
				e, err := newScriptEngine(t.Context(), w.config(t))
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := e.Close(); err != nil {
						t.Error(err)
					}
				}()
				res, err := p.Run(t.Context(), liar{e})
				if err != nil {
					t.Fatal(err)
				}
				met := p.Expectations() - p.Errors() - res.Skipped // errors are told by the test of the language
				wrong := map[pitscript.Position]bool{}
				for _, f := range res.Failures {
					wrong[f.Position] = true
				}
				if len(wrong) < met {
					t.Errorf("%d of %d wrong answers were noticed", len(wrong), met)
				}
			})
		}
	}
}
