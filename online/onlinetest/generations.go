package onlinetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/forebay/forebay/online"
)

func sortResumes(points []online.Resume) []online.Resume {
	slices.SortFunc(points, func(a, b online.Resume) int { return strings.Compare(a.Input, b.Input) })
	return points
}

func checkResumes(t *testing.T, s *suite, store online.Store, view string, generation int, want ...online.Resume) {
	t.Helper()
	got, err := store.Resumes(s.ctx, view, generation)
	if err != nil || !slices.Equal(sortResumes(got), sortResumes(want)) {
		t.Fatalf("resume points of %s@%d: %v, %v; want %v", view, generation, got, err, want)
	}
}

func testResumes(t *testing.T, s *suite) {
	store := s.open(t)
	point := func(view string, generation int, input, position string) online.Resume {
		return online.Resume{View: view, Generation: generation, Input: input, Position: position}
	}
	a, b := point("v", 1, "topic/0", "17"), point("v", 1, "topic/1", "")
	c, d := point("v", 2, "topic/0", "1"), point("v2", 1, "offline", "snapshot \x00\xff{}")
	if err := store.SetResumes(s.ctx, []online.Resume{a, b, c, d}); err != nil {
		t.Fatal(err)
	}
	checkResumes(t, s, store, "v", 1, a, b)
	checkResumes(t, s, store, "v", 2, c)
	checkResumes(t, s, store, "v2", 1, d)
	a.Position = "18"
	if err := store.SetResumes(s.ctx, []online.Resume{a}); err != nil {
		t.Fatal(err)
	}
	checkResumes(t, s, store, "v", 1, a, b)
	if s.Shared {
		checkResumes(t, s, s.open(t), "v", 1, a, b)
	}
}

func testLive(t *testing.T, s *suite) {
	store := s.open(t)
	for _, set := range []struct {
		view       string
		generation int
	}{{"v", 1}, {"w{}", 300}, {"v", 2}, {"v", 1}, {"", 5}} {
		if err := store.SetLive(s.ctx, set.view, set.generation); err != nil {
			t.Fatal(err)
		}
		live, err := store.Live(s.ctx)
		if err != nil || live[set.view] != set.generation {
			t.Fatalf("Live: %v, %v; want %s@%d", live, err, set.view, set.generation)
		}
	}
	live, err := store.Live(s.ctx)
	if err != nil || len(live) != 3 || live["w{}"] != 300 {
		t.Errorf("Live: %v, %v", live, err)
	}
	if s.Shared {
		if again, err := s.open(t).Live(s.ctx); err != nil || again["v"] != 1 {
			t.Errorf("Live of another store: %v, %v", again, err)
		}
	}
}

func testDrop(t *testing.T, s *suite) {
	store := s.open(t)
	// Neighbours whose names a pattern or a prefix could take for the dropped one.
	const view, generation = "v*", 1
	others := []online.Key{key(view, 11, "e"), key(view, 2, "e"), key("v", 1, "e"), key("vv", 1, "e"), key("v*1", 1, "e"), key("v*", 257, "e")}
	var records []online.Record
	for i := range 3000 {
		records = append(records, record(key(view, generation, fmt.Sprint(i, "{}")), 1, "dropped"))
	}
	for _, k := range others {
		records = append(records, record(k, 1, "kept"))
	}
	write(t, s, store, online.IfNewer, records...)
	kept := online.Resume{View: view, Generation: 11, Input: "offline", Position: "1"}
	if err := store.SetResumes(s.ctx, []online.Resume{kept, {View: view, Generation: generation, Input: "offline", Position: "1"}}); err != nil {
		t.Fatal(err)
	}
	if err := store.SetLive(s.ctx, view, generation); err != nil {
		t.Fatal(err)
	}
	if err := store.Drop(s.ctx, view, generation); err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		want := r.Value
		if i < 3000 {
			want = nil
		}
		if i%100 == 0 || i >= 3000 {
			check(t, s, store, r.Key, want)
		}
	}
	checkResumes(t, s, store, view, generation)
	checkResumes(t, s, store, view, 11, kept)
	if live, err := store.Live(s.ctx); err != nil || live[view] != generation {
		t.Errorf("Live after a Drop: %v, %v", live, err)
	}
	// A dropped generation can be filled again, from the beginning.
	if res := write(t, s, store, online.IfNewer, records[0]); res.Applied != 1 {
		t.Errorf("Write after a Drop: %+v", res)
	}
}

func testUsage(t *testing.T, s *suite) {
	store := s.open(t)
	var records []online.Record
	for i := range 2500 {
		records = append(records, record(key("v", 1, fmt.Sprint(i)), 1, strings.Repeat("x", 100)))
	}
	write(t, s, store, online.IfNewer, append(records, record(key("v", 2, "e"), 1, ""))...)
	n, size, err := store.Usage(s.ctx, "v", 1)
	if err != nil || n < 2000 || n > 3000 || (size != 0 && (size < 133*2000 || size > 500*3000)) {
		t.Errorf("Usage: %d records, %d bytes, %v", n, size, err)
	}
}

// testProjects: stores of two projects do not see each other.
func testProjects(t *testing.T, s *suite) {
	store := s.open(t)
	k := key("v", 1, "e")
	write(t, s, store, online.IfNewer, record(k, 1, "mine"))
	if err := store.SetLive(s.ctx, "v", 1); err != nil {
		t.Fatal(err)
	}
	project := s.project
	for _, name := range []string{project + "2", project[:len(project)-1]} {
		s.project = name
		other := s.open(t)
		check(t, s, other, k, nil)
		if live, err := other.Live(s.ctx); err != nil || len(live) != 0 {
			t.Errorf("Live of another project: %v, %v", live, err)
		}
		if err := other.Drop(s.ctx, "v", 1); err != nil {
			t.Error(err)
		}
	}
	check(t, s, store, k, record(k, 1, "mine").Value)
}
