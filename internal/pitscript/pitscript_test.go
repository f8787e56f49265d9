package pitscript

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/spec"
)

// project is the definitions of testdata.
func project(t testing.TB) *registry.Project {
	t.Helper()
	repo, diagnostics := spec.Load("testdata")
	if err := diagnostics.Err(); err != nil {
		t.Fatal(err)
	}
	return repo.Project
}

// TestMistakes pins the message of each mistake that a script can have, with its place.
func TestMistakes(t *testing.T) {
	p := project(t)
	const load = "load departures\n  date, origin, delay\n  10:00, SFO, 1\n" // three lines
	tests := []struct{ script, want string }{
		{"", `1:1: the script expects nothing (add a line such as: at 10:30 expect view:feature key=value = 1)`},
		{"# a comment alone", `1:1: the script expects nothing`},
		{"expct latest origin=SFO = 1", `1:1: there is no statement "expct" (did you mean "expect"?)`},
		{"  date, origin", `1:3: an indented line is part of a table, and no statement is above it`},
		{"start", `1:1: start lacks something (its form is: start INSTANT)`},
		{"start soon", `1:7: "soon" is not an instant`},
		{"expect latest:delay origin=SFO = 1\n\nstart 10:00", `3:1: start comes after another statement`},
		{"load departure", `1:6: there is no source "departure" (did you mean "departures"?)`},
		{"load departures", `1:1: load has no rows`},
		{"load departures\n  date, origin, delai\n  10:00, SFO, 1", `2:17: source departures has no column "delai" (did you mean "delay"?)`},
		{"load departures\n  origin, delay\n  SFO, 1", `2:3: the column "date" is missing (it is the event time of source departures)`},
		{"load departures\n  date, date\n  10:00, 10:00", `2:9: column "date" is there twice`},
		{"load departures\n  date, origin\n  10:00", `3:3: the row has 1 cells, and the table 2 columns`},
		{"load departures\n  date, delay\n  10:00, many", `3:10: `},
		{"load departures\n  date, delay\n  25:00, 1", `3:3: "25:00" is not an instant`},
		{"load departures\n  date, delay\n  10:00, 1.5", `3:10: `},
		{"advance 5", `1:9: "5" is not a duration such as 90s, 15m or 1d2h`},
		{"advance 99999999999w", `1:9: "99999999999w" is longer than all of time`},
		{"advance 9000w\nadvance 500000w", `2:9: the clock would pass the year 9999`},
		{"at", `1:1: at lacks an instant`},
		{"at 10:00\nat 09:00 expect latest:delay origin=SFO = 1", `2:4: the clock is at 10:00 and does not go back (training data of an earlier instant is: at 09:00 known_at now)`},
		{"at 10:00 known_at 11:00 expect latest:delay origin=SFO = 1", `1:19: known_at is later than the clock, which is at 00:00`},
		{"at 10:00 as_of 09:00 expect latest:delay origin=SFO = 1", `1:16: as_of is not later than the instant before it`},
		{"at 10:00 known_at now as_of 11:00 expect latest:delay origin=SFO = 1", `1:1: known_at and as_of go not together`},
		{"at 10:00 when", `1:10: unexpected "when"`},
		{"at 10:00 known_at", `1:10: known_at lacks an instant`},
		{"expect", `1:1: expect lacks features`},
		{"expect service", `1:8: expect service lacks a name`},
		{"expect service modell", `1:16: project "scripts" has no service "modell"; did you mean "model"?`},
		{"expect latest:dela origin=SFO = 1", `1:8: `},
		{"expect latest:delay = 1", `1:8: missing origin`},
		{"expect latest:delay origin=SFO", `1:1: expect expects nothing`},
		{"expect latest:delay origin=SFO =", `1:32: nothing is expected after =`},
		{"expect latest:delay origin=SFO = one", `1:34: `},
		{"expect latest:delay origin=SFO = 1 ~x", `1:34: "~x" is not a tolerance such as ~0.5 or ~2%`},
		{"expect latest:delay origin=SFO = null PRESENT", `1:34: a value that is null is never PRESENT`},
		{"expect latest:delay origin=SFO = 1 INVALID", `1:34: a value that is INVALID is null`},
		{"expect latest origin=SFO = 1", `1:28: one value is expected of 2 features`},
		{"expect latest:delay origins=SFO = 1", `1:21: "origins" is neither a key nor a request field of these features (did you mean "origin"?)`},
		{"expect latest:delay SFO = 1", `1:21: unexpected "SFO"`},
		{"expect latest:delay origin=SFO = 1\n  origin, delay\n  SFO, 1", `2:3: this statement has no table`},
		{"expect latest\n  origin, speed\n  SFO, 1", `2:11: "speed" is neither a key, a request field nor a feature that is asked for`},
		{"expect latest\n  origin\n  SFO", `2:3: the table has no feature`},
		{"expect latest\n  origin, origin, delay\n  SFO, SFO, 1", `2:11: column "origin" is there twice`},
		{"expect latest origin=SFO\n  origin, delay\n  SFO, 1", `2:3: "origin" is given above the table already`},
		{`expect latest:delay origin=SFO fails`, `1:32: fails wants one text`},
		{`expect latest:delay origin=SFO fails ""`, `1:38: any message has an empty text`},
		{"refused departures null_key = x", `1:29: a count is expected`},
		{"refused departures late = 1", `1:20: there is no reason "late"`},
		{"refused departures null_key", `1:1: refused lacks something`},
		{load + "advance 1h\n  x", `5:3: this statement has no table`},
		{"# \xff\nexpect", `1:1: the line is not UTF-8`},
	}
	for _, test := range tests {
		_, err := Compile("a.pit", []byte(test.script), p)
		var mistakes Mistakes
		if !errors.As(err, &mistakes) {
			t.Errorf("%q: no mistake, want %s", test.script, test.want)
			continue
		}
		if !strings.HasPrefix(mistakes[0].String(), "a.pit:"+test.want) {
			t.Errorf("%q:\n got %s\nwant a.pit:%s", test.script, mistakes[0], test.want)
		}
	}
}

// TestAllMistakesAtOnce: a script with several mistakes has them all reported, in order.
func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Compile("a.pit", []byte("expect latest:delay origin=SFO = x\nadvance x\nload x\n"), project(t))
	if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 3 {
		t.Errorf("%d mistakes, want 3:\n%v", n, err)
	}
}

// fixed is an engine that answers every lookup with one value, and notes what it is told.
type fixed struct {
	value   feature.Value
	status  feature.Status
	err     error // of lookups and pushes
	ahead   int64 // of the clock, that lookups answer for
	refused map[Refusal]int64
	clock   int64
	heard   []string
}

var _ Engine = (*fixed)(nil)

func (e *fixed) SetClock(at int64) { e.clock = at }

func (e *fixed) Deliver(_ context.Context, all []Events) error {
	for _, events := range all {
		for i := range events.Rows.Rows {
			at := calendar{defaultStart}
			e.heard = append(e.heard, fmt.Sprintf("%s at %s: %s of %s", at.show(e.clock), at.show(events.Rows.Versions[i].IngestedAt),
				events.Rows.Column("delay").Value(i), at.show(events.Rows.Column("date").Int64s()[i])))
		}
	}
	return nil
}

func (e *fixed) Push(context.Context, *registry.Source, *feature.Batch) error { return e.err }

func (e *fixed) Lookup(_ context.Context, l Lookup) (*Answer, error) {
	if e.err != nil {
		return nil, e.err
	}
	if l.KnownAt != nil {
		return nil, ErrHistory
	}
	a := &Answer{Instant: l.At + e.ahead}
	for _, o := range l.Selection.Outputs {
		c := feature.NewColumn(o.Name, o.Type, l.Rows)
		for range l.Rows {
			if o.Type.Kind == e.value.Kind() {
				c.Append(e.value)
			} else {
				c.AppendNull()
			}
		}
		a.Columns, a.Statuses = append(a.Columns, c), append(a.Statuses, make([]feature.Status, l.Rows))
		for i := range l.Rows {
			a.Statuses[len(a.Statuses)-1][i] = e.status
		}
	}
	return a, nil
}

func (e *fixed) Refused(context.Context) (map[Refusal]int64, error) { return e.refused, nil }
func (e *fixed) Close() error                                       { return nil }

func failures(t *testing.T, e Engine, script string) []string {
	t.Helper()
	p, err := Compile("a.pit", []byte(script), project(t))
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Run(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range res.Failures {
		lines = append(lines, fmt.Sprintf("%s: %s: %s != %s", f.Position, f.What, f.Expected, f.Got))
	}
	return lines
}

// TestFailuresAreReported: whatever an engine gets wrong is a failure, with its place.
func TestFailuresAreReported(t *testing.T) {
	five := fixed{value: feature.OfInt64(5), status: feature.Present}
	tests := []struct {
		script string
		engine fixed
		want   string // "" where the script holds
	}{
		{"expect latest:delay origin=SFO = 5", five, ""},
		{"expect latest:delay origin=SFO = *", five, ""},
		{"expect latest:delay origin=SFO = 5 PRESENT", five, ""},
		{"expect latest:delay origin=SFO = 6 ~1", five, ""},
		{"expect latest:delay origin=SFO = 4 ~25%", five, ""},
		{"expect latest:delay origin=SFO = 6", five, "a.pit:1:34: latest:delay of origin=SFO at 00:00: 6 != 5"},
		{"expect latest:delay origin=SFO = 4 ~20%", five, "a.pit:1:34: latest:delay of origin=SFO at 00:00: 4 ~20% != 5"},
		{"expect latest:delay origin=SFO = null", five, "a.pit:1:34: latest:delay of origin=SFO at 00:00: null NULL_VALUE != 5"},
		{"expect latest:delay origin=SFO = NOT_FOUND", fixed{status: feature.NullValue}, "a.pit:1:34: latest:delay of origin=SFO at 00:00: null NOT_FOUND != null NULL_VALUE"},
		{"expect latest:delay origin=SFO = INVALID", fixed{status: feature.NullValue}, "a.pit:1:34: latest:delay of origin=SFO at 00:00: null INVALID != null NULL_VALUE"},
		{"expect latest:delay origin=SFO = 5", fixed{value: feature.OfInt64(5), status: feature.NotFound}, "a.pit:1:34: latest:delay of origin=SFO at 00:00: 5 != 5 NOT_FOUND"},
		{"expect latest:delay origin=SFO = 5 NOT_FOUND", fixed{value: feature.OfInt64(5), status: feature.NotFound}, ""},
		{"at 10:00 expect service model\n  origin, delay, note\n  SFO, 5, *\n  JFK, 6, *", five, "a.pit:4:8: model delay of origin=JFK at 10:00: 6 != 5"},
		{"expect latest:delay origin=SFO = 5", fixed{value: feature.OfInt64(5), status: feature.Present, ahead: 1e6},
			"a.pit:1:1: the instant of the lookup: 00:00 != 00:00:01, as an event is newer than the clock (at … as_of … expects that)"},
		{`expect latest:delay origin=SFO fails "broken"`, fixed{err: errors.New("it is broken")}, ""},
		{`expect latest:delay origin=SFO fails "broken"`, five, `a.pit:1:1: expect: an error with "broken" != no error`},
		{`expect latest:delay origin=SFO fails "broken"`, fixed{err: errors.New("no")}, `a.pit:1:1: expect: an error with "broken" != the error "no"`},
		{`expect latest:speed origin=SFO fails "no feature"`, five, ""},
		{`expect latest:delay fails "missing origin"`, five, ""},
		{`expect latest:delay fails "origin gone"`, five, `a.pit:1:1: expect: an error with "origin gone" != the error "missing origin"`},
		{"push departures fails \"no\"\n  date, origin\n  10:00, SFO", five, `a.pit:1:1: push to departures: an error with "no" != no error`},
		{"refused departures null_key = 1", five, "a.pit:1:1: rows of departures that are refused (null_key): 1 != 0"},
		{"refused departures null_key = 1", fixed{refused: map[Refusal]int64{{"departures", NullKey}: 1}}, ""},
		{"expect latest:delay origin=SFO = *\nrefused departures null_key = 1", fixed{refused: map[Refusal]int64{{"departures", NullKey}: 2}},
			"a.pit:2:1: rows of departures that are refused (null_key): 1 != 2"},
		{"expect latest:delay origin=SFO = *", fixed{refused: map[Refusal]int64{{"departures", AheadOfClock}: 2}},
			"a.pit:1:1: rows of departures that are refused (ahead_of_clock), by the end: 0, by the script's `refused` != 2"},
		{"at 10:00\nat 09:00 known_at now expect latest:delay origin=SFO = 6", five, ""}, // which this engine has not
	}
	for _, test := range tests {
		if got := strings.Join(failures(t, &test.engine, test.script), "\n"); got != test.want {
			t.Errorf("%q:\n got %q\nwant %q", test.script, got, test.want)
		}
	}
}

// TestArrival: events arrive when the script says, and in that order, whatever their event times.
func TestArrival(t *testing.T) {
	e := &fixed{value: feature.OfInt64(0), status: feature.Present}
	failures(t, e, `start 2024-01-01
load departures
  date,  ingested_at, origin, delay
  10:00, ,            SFO,    1
  10:20, ,            SFO,    2
  10:05, 10:30,       SFO,    3   # late
  09:00, 10:00,       SFO,    4   # with the first, after it
at 10:00 expect latest origin=SFO
  delay
  *
advance 25m
load departures
  date,  origin, delay
  10:01, SFO,    5                # late too: it arrives now
at 11:00 expect latest:delay origin=SFO = 0
load departures
  date,     ingested_at, origin, delay
  11:00:30, 11:00,       SFO,    6   # ahead of the clock
`)
	want := []string{"10:00 at 10:00: 1 of 10:00", "10:00 at 10:00: 4 of 09:00", "10:25 at 10:20: 2 of 10:20", "10:25 at 10:25: 5 of 10:01",
		"11:00 at 10:30: 3 of 10:05", "11:00 at 11:00: 6 of 11:00:30"}
	if got := strings.Join(e.heard, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("arrived:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

// FuzzCompile: no text brings the compiler down, and every mistake has a place in it.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		"", "start 2024-03-01\n", "load departures\n  date, origin\n  10:00, \"a, # b\"\n", "at 10:30 known_at now expect latest:delay origin=SFO = 1 ~2% PRESENT\n",
		"expect service model\n\torigin, delay # c\n\tSFO, *\n", "refused departures null_key = 1", "push departures fails \"x\"\n date\n 10:00\n", "advance 1d2h\nat +1h as_of +2h\n",
		"expect latest:note origin=\"a b\" = \"c \\\" d\"", "expect latest origin=[1,\"]\"] = [1, 2] NOT_FOUND", "\xff", "=", "~", "expect a,b = =",
	} {
		f.Add(seed)
	}
	p := project(f)
	f.Fuzz(func(t *testing.T, text string) {
		program, err := Compile("a.pit", []byte(text), p)
		if err == nil {
			if len(program.steps) == 0 {
				t.Error("a script that does nothing")
			}
			return
		}
		var mistakes Mistakes
		if !errors.As(err, &mistakes) || len(mistakes) == 0 {
			t.Fatalf("not mistakes: %v", err)
		}
		lines := strings.Split(text, "\n")
		for _, m := range mistakes {
			if m.Line < 1 || m.Line > max(1, len(lines)) || m.Column < 1 || m.Column > len(lines[m.Line-1])+1 || m.Message == "" || strings.Contains(m.String(), "\n") {
				t.Errorf("%q: mistake %q", text, m)
			}
		}
	})
}
