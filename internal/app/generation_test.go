package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/selection"
)

// twice is definitions whose feature has another meaning.
var twice = strings.Replace(definitions, "expr: delay", `expr: "delay * 2"`, 1)

// change applies other definitions.
func change(t *testing.T, a *App, dir, text string) *registry.Revision {
	t.Helper()
	write(t, filepath.Join(dir, "features.yaml"), text)
	return apply(t, a)
}

func materialized(t *testing.T, a *App) {
	t.Helper()
	if _, err := a.Materialize(t.Context(), MaterializeOptions{}); err != nil {
		t.Fatal(err)
	}
}

// states are the generations of the view latest as "2 ready, 1 live pinned".
func states(t *testing.T, a *App) string {
	t.Helper()
	all, err := a.Generations(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, g := range all {
		text := fmt.Sprint(g.Generation, " ", g.State)
		if g.Pinned {
			text += " pinned"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

func wantStates(t *testing.T, a *App, want string) {
	t.Helper()
	if got := states(t, a); got != want {
		t.Fatalf("generations are %q, want %q", got, want)
	}
}

// TestRollback: a rollback is undone by nothing but a promote, and finds what came in meanwhile.
func TestRollback(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	wantStates(t, a, "1 live")
	_, err := a.RollbackGeneration(t.Context(), "latest", false)
	wantCode(t, err, codeNoOther)
	change(t, a, dir, twice)
	wantStates(t, a, "2 filling, 1 live")
	_, err = a.Promote(t.Context(), PromoteOptions{View: "latest"})
	wantCode(t, err, codeNotFilled)
	materialized(t, a)
	wantStates(t, a, "2 live, 1 old")

	write(t, filepath.Join(dir, "push.ndjson"), `{"date":"2001-01-02T12:00:00Z","origin":"SFO","delay":30}`)
	if _, err := a.Push(t.Context(), PushOptions{Source: "departures", File: filepath.Join(dir, "push.ndjson")}); err != nil {
		t.Fatal(err)
	}
	dry, err := a.RollbackGeneration(t.Context(), "latest", true)
	if err != nil || *dry != (GenerationMove{View: "latest", From: 2, To: 1, Pinned: true, Changed: true, DryRun: true}) {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if got := get(t, a, "latest:last_delay", "SFO"); got != "60 PRESENT" {
		t.Fatalf("before the rollback: %s", got)
	}
	m, err := a.RollbackGeneration(t.Context(), "latest", false)
	if err != nil || *m != (GenerationMove{View: "latest", From: 2, To: 1, Pinned: true, Changed: true}) {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := get(t, a, "latest:last_delay", "SFO"); got != "30 PRESENT" {
		t.Fatalf("after the rollback: %s", got)
	}
	done, err := a.Materialize(t.Context(), MaterializeOptions{})
	if err != nil || done[0].WentLive {
		t.Fatalf("materialize undid the rollback: %+v, %v", done, err)
	}
	wantStates(t, a, "2 ready, 1 live pinned")
	// Both are brought up to date by materialize.
	write(t, filepath.Join(dir, "data", "more.csv"), "date,origin,delay\n2001-01-02T13:00:00Z,SFO,31\n")
	if _, err := a.Ingest(t.Context(), IngestOptions{Source: "departures", Files: []string{filepath.Join(dir, "data", "more.csv")}}); err != nil {
		t.Fatal(err)
	}
	materialized(t, a)
	for ref, want := range map[string]string{"latest:last_delay": "31 PRESENT", "latest@2:last_delay": "62 PRESENT"} {
		if got := get(t, a, ref, "SFO"); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
	// Another generation waits too.
	change(t, a, dir, strings.Replace(definitions, "expr: delay", `expr: "delay * 3"`, 1))
	materialized(t, a)
	wantStates(t, a, "3 ready, 2 old, 1 live pinned")
	if m, err = a.Promote(t.Context(), PromoteOptions{View: "latest"}); err != nil || m.To != 3 || m.Pinned {
		t.Fatalf("%+v, %v", m, err)
	}
	wantStates(t, a, "3 live, 2 old, 1 old")
	if m, err = a.RollbackGeneration(t.Context(), "latest", false); err != nil || m.To != 1 {
		t.Fatalf("what was live before is 1: %+v, %v", m, err)
	}
	if m, err = a.RollbackGeneration(t.Context(), "latest", false); err != nil || m.To != 3 || m.Pinned {
		t.Fatalf("a second rollback undoes the first: %+v, %v", m, err)
	}
	if m, err = a.Promote(t.Context(), PromoteOptions{View: "latest", Generation: 2}); err != nil || !m.Pinned {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := get(t, a, "latest:last_delay", "SFO"); got != "62 PRESENT" {
		t.Fatalf("generation 2: %s", got)
	}
	_, err = a.Promote(t.Context(), PromoteOptions{View: "latest", Generation: 9})
	wantCode(t, err, codeUnknownGeneration)
}

// TestKeptIsNotPromoted: the pipelines write to a generation that is kept for a rollback, and fill it where it
// lacks history; that does not make it live.
func TestKeptIsNotPromoted(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	head := change(t, a, dir, twice)
	materialized(t, a)
	kept, err := a.currentAndLive(t.Context(), head)
	if err != nil || len(kept) != 2 || kept[1].Number != 1 {
		t.Fatalf("%v, %v", kept, err)
	}
	b := &materialize.Batch{Tables: tables{a.off}, Online: a.sink(a.on, head), Log: logSink{a.off}}
	if r, err := b.Run(t.Context(), materialize.BatchRequest{View: kept[1]}); err != nil || r.WentLive {
		t.Fatalf("%+v, %v", r, err)
	}
	wantStates(t, a, "2 live, 1 old")
}

// TestBackToAnEarlierMeaning: a revision whose generation was kept up to date needs no filling to go live.
func TestBackToAnEarlierMeaning(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	change(t, a, dir, twice)
	materialized(t, a)
	change(t, a, dir, definitions)
	wantStates(t, a, "2 live, 1 ready")
	if err := a.tendOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStates(t, a, "2 old, 1 live")
	if _, err := a.RollbackGeneration(t.Context(), "latest", false); err != nil {
		t.Fatal(err)
	}
	if err := a.tendOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStates(t, a, "2 live pinned, 1 ready")
}

// TestColumnAdded: a source gains a column; what is kept is fed on.
func TestColumnAdded(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	wider := strings.Replace(strings.Replace(twice, "delay: int64}", "delay: int64, gate: string}", 1), `expr: "delay * 2"}`, `expr: "gate == null ? delay : delay * 2"}`, 1)
	if wider == twice {
		t.Fatal("the definitions have changed")
	}
	change(t, a, dir, wider)
	materialized(t, a)
	if got := get(t, a, "latest:last_delay", "SFO"); got != "20 PRESENT" {
		t.Errorf("a row from before has no null: %s", got)
	}
	write(t, filepath.Join(dir, "push.ndjson"), `{"date":"2001-01-02T12:00:00Z","origin":"SFO","delay":30,"gate":"B7"}`)
	if _, err := a.Push(t.Context(), PushOptions{Source: "departures", File: filepath.Join(dir, "push.ndjson")}); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{"latest:last_delay": "60 PRESENT", "latest@1:last_delay": "30 PRESENT"} {
		if got := get(t, a, ref, "SFO"); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
}

// TestPromoteByHand: where the environment says so, a filled generation waits, but not the first.
func TestPromoteByHand(t *testing.T) {
	dir := repository(t)
	write(t, filepath.Join(dir, "forebay.yaml"), settings+"    generations: {promote: manual, keep: 7d}\n")
	a := open(t, dir)
	fill(t, a)
	wantStates(t, a, "1 live")
	change(t, a, dir, twice)
	materialized(t, a)
	wantStates(t, a, "2 ready, 1 live")
	if _, err := a.Promote(t.Context(), PromoteOptions{View: "latest"}); err != nil {
		t.Fatal(err)
	}
	wantStates(t, a, "2 live, 1 old")
}

// TestDrop: a generation is dropped when the environment's time is over, and can be had again.
func TestDrop(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	now := time.Now()
	a.wall = func() time.Time { return now }
	tend := func() {
		t.Helper()
		if err := a.tendOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, a)
	change(t, a, dir, twice)
	tend()
	wantStates(t, a, "2 filling, 1 live")
	materialized(t, a)
	now = now.Add(23 * time.Hour)
	tend()
	tend()
	wantStates(t, a, "2 live, 1 old")
	now = now.Add(2 * time.Hour)
	tend() // says so, for streams to hear
	wantStates(t, a, "2 live, 1 dropped")
	if refs, err := a.fedKey(t.Context(), mustHead(t, a)); err != nil || refs != "latest@2" {
		t.Fatalf("rows go to %q, %v", refs, err)
	}
	if n, _, err := a.on.Usage(t.Context(), "latest", 1); err != nil || n != 2 {
		t.Fatalf("dropped without a warning: %d records, %v", n, err)
	}
	now = now.Add(tendGrace)
	tend()
	if n, _, err := a.on.Usage(t.Context(), "latest", 1); err != nil || n != 0 {
		t.Fatalf("%d records are left, %v", n, err)
	}
	_, err := a.RollbackGeneration(t.Context(), "latest", false)
	wantCode(t, err, codeDropped)
	if known := new(Error); !errors.As(err, &known) || !strings.Contains(known.Hint, "`forebay registry rollback 1`") {
		t.Fatalf("the hint is %q", known.Hint)
	}
	_, err = a.Promote(t.Context(), PromoteOptions{View: "latest", Generation: 1, Force: true})
	wantCode(t, err, codeDropped)
	_, err = a.Get(t.Context(), GetOptions{Features: []string{"latest@1:last_delay"}, Entity: []Pair{{"origin", "SFO"}}})
	wantCode(t, err, codeDropped)
	if known := new(Error); !errors.As(err, &known) || !strings.Contains(known.Hint, "generation 2") || !strings.Contains(known.Hint, "`forebay registry rollback 1`") {
		t.Fatalf("the hint is %q", known.Hint)
	}

	change(t, a, dir, definitions)
	wantStates(t, a, "2 live, 1 dropped")
	materialized(t, a)
	wantStates(t, a, "2 old, 1 live")
	if got := get(t, a, "latest:last_delay", "SFO"); got != "20 PRESENT" {
		t.Fatalf("generation 1 again: %s", got)
	}
}

func mustHead(t *testing.T, a *App) *registry.Revision {
	t.Helper()
	head, err := a.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// TestOnlineGC drops what is kept for a rollback too, but not what is pinned or named by a service.
func TestOnlineGC(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	a.wall = func() time.Time { return time.Unix(1e9, 0) }
	fill(t, a)
	change(t, a, dir, twice)
	materialized(t, a)
	named := strings.Replace(twice, "features: [latest]", `features: ["latest@1"]`, 1)
	change(t, a, dir, named)
	gc := func(dry bool) []CollectedGeneration {
		t.Helper()
		c, err := a.OnlineGC(t.Context(), dry, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Generations
	}
	if got := gc(true); len(got) != 0 {
		t.Fatalf("a service names generation 1: %+v", got)
	}
	change(t, a, dir, twice)
	if got := gc(true); len(got) != 1 || got[0].Generation != 1 || got[0].Records != 2 {
		t.Fatalf("dry run: %+v", got)
	}
	wantStates(t, a, "2 live, 1 old")
	if got := gc(false); len(got) != 1 || got[0].Generation != 1 || got[0].Records != 2 {
		t.Fatalf("%+v", got)
	}
	wantStates(t, a, "2 live, 1 dropped")
	if got := gc(false); len(got) != 0 {
		t.Fatalf("again: %+v", got)
	}
}

// between is an online store that does something just before SetLive.
type between struct {
	online.Store
	do func()
}

func (s *between) SetLive(ctx context.Context, view string, generation int) error {
	if do := s.do; do != nil {
		s.do = nil
		do()
	}
	return s.Store.SetLive(ctx, view, generation)
}

// TestRollbackAgainstPromotion: somebody rolls back while the stream is about to make the
// new generation live; the rollback wins.
func TestRollbackAgainstPromotion(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	store := &between{Store: a.on}
	user := pointers{store: a.on, now: time.Now}
	stream := pointers{store: store, now: time.Now}
	store.do = func() {
		if err := user.choose(t.Context(), "latest", 1, true); err != nil {
			t.Error(err)
		}
	}
	if err := stream.propose(t.Context(), "latest", 2); err != nil {
		t.Fatal(err)
	}
	if live, err := a.on.Live(t.Context()); err != nil || live["latest"] != 1 {
		t.Fatalf("live: %v, %v", live, err)
	}
}

// TestRollbackAgainstDrop: of a rollback to a generation and the dropping of it at the same
// time, one gives way, whichever step of the other it comes between.
func TestRollbackAgainstDrop(t *testing.T) {
	for step := range 12 {
		dir := repository(t)
		a := open(t, dir)
		fill(t, a)
		p := pointers{store: a.on, now: time.Now}
		if err := p.move(t.Context(), "latest", 1, 2); err != nil {
			t.Fatal(err)
		}
		counted := &counting{Store: a.on, at: step}
		var chosen error
		did := false
		counted.do = func() {
			did = true
			chosen = p.choose(t.Context(), "latest", 1, true)
		}
		slow := pointers{store: counted, now: time.Now}
		doomed, err := slow.doom(t.Context(), registry.Ref{View: "latest", Generation: 1}, true)
		if err != nil {
			t.Fatal(err)
		}
		if !did {
			return
		}
		if doomed == (chosen == nil) {
			t.Errorf("step %d: doomed %v, chosen: %v", step, doomed, chosen)
		}
	}
	t.Error("there are more steps than were tried")
}

// counting does something before the call number at.
type counting struct {
	online.Store
	at int
	do func()
}

func (s *counting) step() {
	if s.at == 0 {
		s.do()
	}
	s.at--
}

func (s *counting) Live(ctx context.Context) (map[string]int, error) {
	s.step()
	return s.Store.Live(ctx)
}

func (s *counting) Resumes(ctx context.Context, view string, generation int) ([]online.Resume, error) {
	s.step()
	return s.Store.Resumes(ctx, view, generation)
}

func (s *counting) SetResumes(ctx context.Context, points []online.Resume) error {
	s.step()
	return s.Store.SetResumes(ctx, points)
}

// TestRollbackReachesServers: two servers take a rollback up by themselves, over the
// owner's socket and over Redis.
func TestRollbackReachesServers(t *testing.T) {
	redis := testenv.RedisServer(t)
	for name, on := range map[string]string{
		"embedded": "{store: embedded, path: ./.forebay/online}",
		"redis":    fmt.Sprintf("{store: redis, addrs: [%q]}", redis.Addr),
	} {
		t.Run(name, func(t *testing.T) {
			dir := repository(t)
			write(t, filepath.Join(dir, "forebay.yaml"), strings.Replace(settings, "{store: embedded, path: ./.forebay/online}", on, 1))
			a := open(t, dir)
			if err := a.Hold(t.Context()); err != nil {
				t.Fatal(err)
			}
			fill(t, a)
			change(t, a, dir, twice)
			materialized(t, a)
			var servers []http.Handler
			for _, a := range []*App{a, open(t, dir)} {
				h, err := a.Handler(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				servers = append(servers, h)
			}
			answers := func() []string {
				var got []string
				for _, h := range servers {
					w := httptest.NewRecorder()
					r := httptest.NewRequest(http.MethodPost, "/v1/features", strings.NewReader(`{"service":"model","entities":[{"origin":"SFO"}]}`))
					r.Header.Set("Content-Type", "application/json")
					h.ServeHTTP(w, r)
					var body struct {
						Rows []struct{ Values []json.Number }
					}
					if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || len(body.Rows) != 1 {
						t.Fatalf("%d %s", w.Code, w.Body)
					}
					got = append(got, string(body.Rows[0].Values[0]))
				}
				return got
			}
			if got := answers(); !slices.Equal(got, []string{"40", "40"}) {
				t.Fatalf("before: %v", got)
			}
			start := time.Now()
			if _, err := open(t, dir).RollbackGeneration(t.Context(), "latest", false); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { return slices.Equal(answers(), []string{"20", "20"}) })
			t.Logf("both servers answer from the old generation after %s", time.Since(start))
		})
	}
}

// TestLookupOfDropped: a lookup that names a generation says that it was dropped, also where the
// server has answered it before; and answers it again once it is filled again.
func TestLookupOfDropped(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	a.wall = func() time.Time { return time.Unix(1e9, 0) }
	fill(t, a)
	change(t, a, dir, twice)
	materialized(t, a)
	e, err := a.newEngine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := &countedResumes{Store: e.store}
	e.store = store
	plan := func() error {
		_, err := e.Plan(t.Context(), selection.Request{Features: []string{"latest@1:last_delay"}})
		return err
	}
	refresh := func(want bool) {
		t.Helper()
		if changed, err := e.refresh(t.Context()); err != nil || changed != want {
			t.Fatalf("refresh: %v, %v; want %v", changed, err, want)
		}
	}
	if err := plan(); err != nil {
		t.Fatal(err)
	}
	refresh(false)
	p := &pointers{store: a.on, now: a.wall}
	if err := p.keep(t.Context(), "latest", map[string]string{of(keptDropping, 1): p.instant()}); err != nil {
		t.Fatal(err)
	}
	refresh(false) // the records are still there
	if err := a.on.Drop(t.Context(), "latest", 1); err != nil {
		t.Fatal(err)
	}
	refresh(true)
	before := -1
	for range 3 {
		var gone *httpapi.NotFoundError
		if err := plan(); !errors.As(err, &gone) || gone.Code != codeDropped || !strings.Contains(gone.Message, "latest@1 was dropped") || !strings.Contains(gone.Message, "generation 2") {
			t.Fatalf("of a generation that was dropped: %v", err)
		}
		if before >= 0 && store.calls != before {
			t.Fatalf("the store was asked for each request")
		}
		before = store.calls
	}
	refresh(false)
	if err := a.on.SetResumes(t.Context(), []online.Resume{{View: "latest", Generation: 1, Input: "offline", Position: "1"}}); err != nil {
		t.Fatal(err)
	}
	refresh(true)
	if err := plan(); err != nil {
		t.Fatalf("of a generation that is filled again: %v", err)
	}
}

// countedResumes is a store that counts the calls of Resumes.
type countedResumes struct {
	online.Store
	calls int
}

func (c *countedResumes) Resumes(ctx context.Context, view string, generation int) ([]online.Resume, error) {
	c.calls++
	return c.Store.Resumes(ctx, view, generation)
}
