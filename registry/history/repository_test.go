package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

func project(views ...string) *registry.Project {
	p := &registry.Project{Name: "flights"}
	for _, v := range views {
		p.Views = append(p.Views, registry.FeatureView{Meta: registry.Meta{Name: v}, Source: "departures",
			Features: []registry.Feature{{Field: feature.Field{Name: "f", Type: feature.ListOf(feature.String)}, Expr: "a < b && c"}}})
	}
	return p
}

func revision(parent string, generations ...registry.Generation) *registry.Revision {
	r := &registry.Revision{Parent: parent, Author: "ana", Time: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600)), Generations: generations}
	var views []string
	for _, g := range generations {
		views = append(views, g.View)
	}
	r.Project = project(views...)
	return r
}

func gen(view string, n int) registry.Generation {
	return registry.Generation{View: view, Number: n, Fingerprint: fmt.Sprintf("%064d", n)}
}

// each runs a test over every kind of objects.
func each(t *testing.T, run func(t *testing.T, r *Repository)) {
	t.Run("folder", func(t *testing.T) { run(t, open(t, "file://"+filepath.ToSlash(t.TempDir())+"/not/there/yet")) })
	t.Run("bucket", func(t *testing.T) {
		r := New(memblob.OpenBucket(nil))
		t.Cleanup(func() { _ = r.Close() })
		run(t, r)
	})
	t.Run("s3", func(t *testing.T) { r, _ := openS3(t); run(t, r) })
	t.Run("bucket below a prefix", func(t *testing.T) { run(t, open(t, "mem://ignored/some/folder")) })
}

func open(t *testing.T, url string) *Repository {
	t.Helper()
	r, err := Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func mustAppend(t *testing.T, r *Repository, rev *registry.Revision) *registry.Revision {
	t.Helper()
	if err := r.Append(context.Background(), rev); err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestEmpty(t *testing.T) {
	ctx := context.Background()
	each(t, func(t *testing.T, r *Repository) {
		if _, err := r.Head(ctx); !errors.Is(err, registry.ErrNoRevision) {
			t.Errorf("Head: %v", err)
		}
		if _, err := r.Revision(ctx, "1"); !errors.Is(err, registry.ErrNoRevision) {
			t.Errorf("Revision: %v", err)
		}
		if _, err := r.ViewAt(ctx, "v", 1); !errors.Is(err, registry.ErrNoRevision) {
			t.Errorf("ViewAt: %v", err)
		}
		if revs, err := r.History(ctx, 0); err != nil || len(revs) != 0 {
			t.Errorf("History: %v, %v", revs, err)
		}
		if err := r.Append(ctx, revision("sha256:feed")); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("Append after a parent that is not there: %v", err)
		}
	})
}

func TestAppendAndRead(t *testing.T) {
	ctx := context.Background()
	each(t, func(t *testing.T, r *Repository) {
		first := mustAppend(t, r, revision("", gen("a", 1)))
		second := mustAppend(t, r, revision(first.ID, gen("a", 2), gen("b", 1)))
		third := mustAppend(t, r, revision(second.ID, gen("b", 1)))
		if third.Number != 3 || len(third.ID) != len("sha256:")+64 {
			t.Fatalf("third is %d, %q", third.Number, third.ID)
		}
		r = newRepository(r.at, r.objects) // nothing kept

		head, err := r.Head(ctx)
		if err != nil || head.ID != third.ID || head.Number != 3 || head.Parent != second.ID {
			t.Fatalf("head is %+v, %v", head, err)
		}
		if want := time.Date(2026, 3, 1, 11, 0, 0, 123456000, time.UTC); head.Time != want {
			t.Errorf("time is %v, want %v in UTC, to the microsecond", head.Time, want)
		}
		if f := head.Project.Views[0].Features[0]; f.Type != feature.ListOf(feature.String) || f.Expr != "a < b && c" {
			t.Errorf("feature came back as %+v", f)
		}
		for _, id := range []string{"2", second.ID, strings.TrimPrefix(second.ID, "sha256:"), second.ID[:15], second.ID[7:15]} {
			if got, err := r.Revision(ctx, id); err != nil || got.Number != 2 {
				t.Errorf("Revision(%q) = %+v, %v", id, got, err)
			}
		}
		for _, id := range []string{"0", "4", "-1", "", "sha256:", second.ID[:14], second.ID + "0", "sha256:zzzzzzzzzz", "00000000"} {
			if got, err := r.Revision(ctx, id); !errors.Is(err, registry.ErrNoRevision) {
				t.Errorf("Revision(%q) = %+v, %v", id, got, err)
			}
		}
		for _, c := range []struct {
			view    string
			n, want int
		}{{"a", 1, 1}, {"a", 2, 2}, {"b", 1, 3}, {"a", 3, 0}, {"c", 1, 0}, {"a", 0, 0}} {
			got, err := r.ViewAt(ctx, c.view, c.n)
			if c.want == 0 && !errors.Is(err, registry.ErrNoRevision) || c.want > 0 && (err != nil || got.Number != c.want) {
				t.Errorf("ViewAt(%s, %d) = %+v, %v; want revision %d", c.view, c.n, got, err, c.want)
			}
		}
		for limit, want := range map[int][]int{0: {3, 2, 1}, 1: {3}, 2: {3, 2}, 9: {3, 2, 1}} {
			revs, err := r.History(ctx, limit)
			var numbers []int
			for _, rev := range revs {
				numbers = append(numbers, rev.Number)
			}
			if err != nil || !slices.Equal(numbers, want) {
				t.Errorf("History(%d) = %v, %v", limit, numbers, err)
			}
		}
	})
}

func TestAppendConflicts(t *testing.T) {
	ctx := context.Background()
	each(t, func(t *testing.T, r *Repository) {
		first := mustAppend(t, r, revision("", gen("a", 1)))
		second := mustAppend(t, r, revision(first.ID, gen("a", 2)))
		for _, parent := range []string{"", first.ID, "sha256:other"} {
			late := revision(parent)
			err := r.Append(ctx, late)
			want := "the registry has changed meanwhile: revision 2 (" + second.ID + ") was appended by ana at 2026-03-01T11:00:00Z: plan again"
			if !errors.Is(err, registry.ErrConflict) || err.Error() != want {
				t.Errorf("after %q: %v, want %s", parent, err, want)
			}
			if late.ID != "" || late.Number != 0 {
				t.Errorf("the refused revision was given the ID %q", late.ID)
			}
		}
	})
}

// TestAppendRace lets many append after one parent at once: one of each round must win.
func TestAppendRace(t *testing.T) {
	ctx := context.Background()
	each(t, func(t *testing.T, r *Repository) {
		parent := ""
		for round := 1; round <= 10; round++ {
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() {
					rev := revision(parent, gen(fmt.Sprint("view", i), round))
					errs[i] = newRepository(r.at, r.objects).Append(ctx, rev)
				})
			}
			wg.Wait()
			head, err := r.Head(ctx)
			if err != nil || head.Number != round {
				t.Fatalf("round %d: head is %+v, %v", round, head, err)
			}
			won := 0
			for i, err := range errs {
				switch {
				case err == nil:
					won++
					if head.Generations[0].View != fmt.Sprint("view", i) {
						t.Errorf("round %d: %d was told that it won, but the head is of %s", round, i, head.Generations[0].View)
					}
				case !errors.Is(err, registry.ErrConflict) || !strings.Contains(err.Error(), head.ID):
					t.Errorf("round %d: %v, want a conflict that names %s", round, err, head.ID)
				}
			}
			if won != 1 {
				t.Fatalf("round %d: %d appends won", round, won)
			}
			parent = head.ID
		}
	})
}

// TestAppendRaceOfProcesses is TestAppendRace among processes, which share a folder alone.
func TestAppendRaceOfProcesses(t *testing.T) {
	const rounds = 20
	ctx := context.Background()
	if at := os.Getenv("FOREBAY_TEST_APPEND_TO"); at != "" {
		r := open(t, at)
		for won := 0; ; {
			head, err := r.Head(ctx)
			if err != nil && !errors.Is(err, registry.ErrNoRevision) {
				t.Fatal(err)
			}
			parent := ""
			if head != nil {
				parent = head.ID
				if head.Number >= rounds {
					fmt.Printf("won %d\n", won)
					return
				}
			}
			rev := revision(parent)
			rev.Author = fmt.Sprint(os.Getpid())
			if err := r.Append(ctx, rev); err == nil {
				won++
			} else if !errors.Is(err, registry.ErrConflict) {
				t.Fatal(err)
			}
		}
	}
	at := "file://" + filepath.ToSlash(t.TempDir())
	var wg sync.WaitGroup
	outs := make([][]byte, 4)
	errs := make([]error, len(outs))
	for i := range outs {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestAppendRaceOfProcesses$", "-test.v")
			cmd.Env = append(os.Environ(), "FOREBAY_TEST_APPEND_TO="+at)
			outs[i], errs[i] = cmd.CombinedOutput()
		})
	}
	wg.Wait()
	total := 0
	for i, out := range outs {
		if errs[i] != nil {
			t.Fatalf("process %d: %v\n%s", i, errs[i], out)
		}
		_, after, _ := strings.Cut(string(out), "won ")
		won := 0
		if _, err := fmt.Sscan(after, &won); err != nil {
			t.Fatalf("process %d: %v\n%s", i, err, out)
		}
		total += won
	}
	r := open(t, at)
	head, err := r.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	revs, err := r.History(ctx, 0) // checks the chain
	if err != nil || total != head.Number || len(revs) != total {
		t.Errorf("%d appends won, the head is revision %d of %d: %v", total, head.Number, len(revs), err)
	}
	if left, _ := filepath.Glob(filepath.Join(strings.TrimPrefix(at, "file://"), "revisions", temporary+"*")); len(left) > 0 {
		t.Errorf("temporary files stayed: %v", left)
	}
}

// faulty is an objects whose create fails, after or before it has worked.
type faulty struct {
	objects
	works bool
	err   error
}

func (f faulty) create(ctx context.Context, name string, content []byte) error {
	if f.works {
		if err := f.objects.create(ctx, name, content); err != nil {
			return err
		}
	}
	return f.err
}

func TestAppendFaults(t *testing.T) {
	ctx := context.Background()
	lost := errors.New("connection lost")
	for _, c := range []struct {
		name  string
		fault faulty
		want  error
	}{
		{"answer lost", faulty{works: true, err: lost}, nil},
		{"retried by the client after it had worked", faulty{works: true, err: fs.ErrExist}, nil},
		{"not written", faulty{err: lost}, lost},
		{"refused, and the winner is not to be read", faulty{err: fs.ErrExist}, registry.ErrConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fault.objects = folder{t.TempDir()}
			rev := revision("")
			err := newRepository("here", c.fault).Append(ctx, rev)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if (err == nil) != (rev.ID != "") {
				t.Errorf("error %v, ID %q", err, rev.ID)
			}
		})
	}
}

// raced is an objects in which somebody else creates every object first, and which does
// not say so: S3 answers 409 to one of two writes at the same instant.
type raced struct {
	objects
	winner []byte
}

func (r raced) create(ctx context.Context, name string, _ []byte) error {
	return errors.Join(r.objects.create(ctx, name, r.winner), errors.New("409 ConditionalRequestConflict"))
}

func TestAppendRacedUnsaid(t *testing.T) {
	other := revision("", gen("b", 1))
	other.Number = 1
	object, id, err := encode(other)
	if err != nil {
		t.Fatal(err)
	}
	err = newRepository("here", raced{folder{t.TempDir()}, object}).Append(context.Background(), revision("", gen("a", 1)))
	if !errors.Is(err, registry.ErrConflict) || !strings.Contains(err.Error(), id) {
		t.Errorf("got %v, want a conflict that names %s", err, id)
	}
}

// TestLongHistory has more revisions than are kept in memory or read at once.
func TestLongHistory(t *testing.T) {
	ctx := context.Background()
	r := open(t, "mem://")
	parent := ""
	const n = keep + readers + 3
	for i := range n {
		parent = mustAppend(t, r, revision(parent, gen("a", i+1))).ID
	}
	r = newRepository(r.at, r.objects)
	revs, err := r.History(ctx, 0)
	if err != nil || len(revs) != n {
		t.Fatalf("%d revisions, %v", len(revs), err)
	}
	for i, rev := range revs {
		if rev.Number != n-i {
			t.Errorf("revision %d is at %d", rev.Number, i)
		}
	}
	if got, err := r.ViewAt(ctx, "a", 1); err != nil || got.Number != 1 {
		t.Errorf("the oldest: %+v, %v", got, err)
	}
	if len(r.kept) > keep {
		t.Errorf("%d revisions are kept", len(r.kept))
	}
}

// TestTamper changes, in turn, one byte of an object: every change must be refused, by name.
func TestTamper(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	r := open(t, "file://"+filepath.ToSlash(dir))
	mustAppend(t, r, revision("", gen("a", 1)))
	path := filepath.Join(dir, "revisions", "0000000001.json")
	object, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, changed []byte) {
		t.Helper()
		if err := os.WriteFile(path, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := newRepository(r.at, r.objects).Head(ctx)
		if err == nil || !strings.Contains(err.Error(), "revisions/0000000001.json") {
			t.Errorf("%s: got %v, want an error that names the object", what, err)
		}
	}
	for i := range object {
		changed := slices.Clone(object)
		changed[i] ^= 1
		check(fmt.Sprintf("byte %d", i), changed)
		check(fmt.Sprintf("cut off at %d", i), object[:i])
	}
	check("a byte more", append(slices.Clone(object), '\n'))
}

func TestGapsAndSwaps(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	r := open(t, "file://"+filepath.ToSlash(dir))
	path := func(n int) string { return filepath.Join(dir, filepath.FromSlash(objectName(n))) }
	first := mustAppend(t, r, revision(""))
	second := mustAppend(t, r, revision(first.ID))
	mustAppend(t, r, revision(second.ID))

	// A foreign file and one half-written are not revisions.
	for _, name := range []string{"notes.txt", ".writing-123", "4.json", "0000000004.json.bak"} {
		if err := os.WriteFile(filepath.Join(dir, "revisions", name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if head, err := r.Head(ctx); err != nil || head.Number != 3 {
		t.Fatalf("head is %+v, %v", head, err)
	}

	other := revision(first.ID, gen("b", 1))
	other.Number = 2
	object, _, err := encode(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path(2), object, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := newRepository(r.at, r.objects).History(ctx, 0); err == nil || !strings.Contains(err.Error(), "one of them was replaced") {
		t.Errorf("a replaced revision: %v", err)
	}
	if err := os.Rename(path(3), path(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := newRepository(r.at, r.objects).Head(ctx); !errors.Is(err, ErrAltered) {
		t.Errorf("a revision under another's name: %v", err)
	}
	if err := os.Rename(path(2), path(4)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Head(ctx); err == nil || !strings.Contains(err.Error(), "revisions/0000000002.json is missing though revisions/0000000004.json is there") {
		t.Errorf("a gap: %v", err)
	}
}

func TestRollback(t *testing.T) {
	ctx := context.Background()
	r := open(t, "mem://")
	first := mustAppend(t, r, revision("", gen("a", 1)))
	second := mustAppend(t, r, revision(first.ID, gen("a", 2)))
	back, err := Rollback(second, first, "bo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, r, back)
	head, err := r.Head(ctx)
	if err != nil || head.Number != 3 || head.Parent != second.ID || head.Generation("a") != 1 || head.Note != "rollback to "+first.ID || head.Author != "bo" {
		t.Errorf("head is %+v, %v", head, err)
	}
	if _, err := Rollback(head, head, "bo", time.Now()); !errors.Is(err, ErrNothingToRollBack) {
		t.Errorf("to the head: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, at := range []string{"file://./.forebay/registry", "file://relative", "ftp://x/y", "", "registry", "mem://?x=1", "://"} {
		if r, err := Open(context.Background(), at); err == nil {
			t.Errorf("Open(%q) = %v", at, r.at)
		}
	}
}

// TestUnreachable names the place in the error of the first use.
func TestUnreachable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	at := (&url.URL{Scheme: "file", Path: filepath.ToSlash(file)}).String()
	r := open(t, at)
	if _, err := r.Head(context.Background()); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("Head in a file: %v", err)
	}
	if err := r.Append(context.Background(), revision("")); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("Append in a file: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := open(t, "file://"+filepath.ToSlash(t.TempDir())).Head(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
