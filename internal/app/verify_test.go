package app

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// verifyDay is 2024-03-01, the day of the scripts below.
const verifyDay = 19783 * int64(feature.Day)

// verifyFixture is an engine with an online store that has run a script.
type verifyFixture struct {
	*scriptEngine
	t testing.TB
	w *scriptWorld
}

func newVerifyFixture(t testing.TB, root, script string) *verifyFixture {
	t.Helper()
	w := newScriptWorld(t, root)
	c := w.config(t)
	var err error
	if c.Online, err = scriptPebble(w.project.Name, c.Dir+"/online"); err != nil {
		t.Fatal(err)
	}
	e, err := newScriptEngine(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &verifyFixture{e, t, w}
	f.script(script)
	return f
}

// script runs a script on the engine as it is.
func (f *verifyFixture) script(text string) {
	f.t.Helper()
	res, err := f.w.compile(f.t, "a.pit", text).Run(f.t.Context(), f.scriptEngine)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, failure := range res.Failures {
		f.t.Errorf("%v", failure)
	}
}

// offlineOnly runs a script whose events reach the log alone.
func (f *verifyFixture) offlineOnly(text string) {
	f.t.Helper()
	on := f.app.on
	f.app.on = nil
	f.script(text)
	f.app.on = on
}

func (f *verifyFixture) view(name string) registry.ViewGeneration {
	return viewGeneration(f.head, f.head.Project.View(name))
}

// tamper changes the record of the entity SFO of a view.
func (f *verifyFixture) tamper(view string, change func(record []byte) []byte) {
	f.t.Helper()
	key := online.Key{View: view, Generation: 1, Entity: []byte("SFO")}
	got := make([][]byte, 1)
	if err := f.app.on.Get(f.t.Context(), []online.Key{key}, got); err != nil || got[0] == nil {
		f.t.Fatalf("no record: %v", err)
	}
	if _, err := f.app.on.Write(f.t.Context(), []online.Record{{Key: key, Value: change(got[0])}}, online.Always); err != nil {
		f.t.Fatal(err)
	}
}

// row replaces the record of a view of newest rows by one of another version and another value.
func (f *verifyFixture) row(view string, delay int64, change func(*feature.Version)) {
	f.t.Helper()
	f.tamper(view, func(record []byte) []byte {
		version, err := rowcodec.Version(record)
		if err != nil {
			f.t.Fatal(err)
		}
		change(&version)
		v := f.view(view)
		rows := feature.NewBatch(v.Fields()[1:], 1)
		for _, c := range rows.Columns {
			c.Append(feature.OfInt64(delay))
		}
		rows.Rows++
		record, err = rowcodec.For(v).Append(nil, version, rows.Columns, 0)
		if err != nil {
			f.t.Fatal(err)
		}
		return record
	})
}

// state replaces the state in the record of a windowed view by one of rows: their event times, in minutes of
// the day, and delays.
func (f *verifyFixture) state(view string, change func(epoch, offset int64) (int64, int64), rows ...[2]int64) {
	f.t.Helper()
	v := f.view(view)
	plan, err := window.ForView(v.View)
	if err != nil {
		f.t.Fatal(err)
	}
	f.tamper(view, func(record []byte) []byte {
		epoch, offset, state, err := rowcodec.ForWindows(v).Decode(record)
		if err != nil {
			f.t.Fatal(err)
		}
		if change != nil {
			epoch, offset = change(epoch, offset)
		}
		if len(rows) > 0 {
			made := &window.State{}
			for i, r := range rows {
				in := feature.NewBatch(v.Fields()[1:], 1)
				for _, c := range in.Columns {
					if c.Name == "delay" {
						c.Append(feature.OfInt64(r[1]))
					} else {
						c.AppendNull()
					}
				}
				at := verifyDay + r[0]*int64(feature.Minute)
				plan.Add(made, window.Row{Version: feature.Version{EventTime: at, IngestedAt: at, Minor: int64(i)}, Columns: in.Columns})
			}
			state = plan.Append(nil, made)
		}
		return rowcodec.ForWindows(v).Append(nil, epoch, offset, state)
	})
}

// reasons are the reasons of the mismatches, each with its view and entity, sorted.
func (f *verifyFixture) reasons() string {
	f.t.Helper()
	done := verified(f.t, f.scriptEngine)
	var texts []string
	for _, m := range done.Mismatches {
		if m.Message == "" || len(m.Features) == 0 {
			f.t.Errorf("a mismatch without a message or differences: %+v", m)
		}
		texts = append(texts, fmt.Sprintf("%s %s %s", m.View, m.Entity, m.Reason))
	}
	for _, v := range done.Views {
		if v.Ahead > 0 {
			texts = append(texts, fmt.Sprintf("%s ahead %d", v.View, v.Ahead))
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, "; ")
}

// TestVerifyReasons: each way in which a record can be wrong is found, with its reason.
func TestVerifyReasons(t *testing.T) {
	const load = `start 2024-03-01
load departures
  date,  origin, delay
  10:00, SFO,    1
  10:10, SFO,    2
  10:20, SFO,    4
  10:20, JFK,    8
`
	const newest, windows = "testdata/scripts/newest", "testdata/scripts/windows"
	same := func(epoch, offset int64) (int64, int64) { return epoch, offset }
	tests := []struct {
		name, root, script string
		change             func(f *verifyFixture)
		want               string
	}{
		{"nothing", newest, load + "at 10:30 expect ever:last_delay origin=SFO = 4", func(*verifyFixture) {}, ""},
		{"a bit", newest, load + "at 10:30 expect ever:last_delay origin=SFO = 4", func(f *verifyFixture) {
			f.tamper("ever", func(r []byte) []byte { r[len(r)-1] ^= 1; return r })
		}, "ever@1 origin=SFO corrupt_record"},
		{"a value", newest, load + "at 10:30 expect ever:last_delay origin=SFO = 4", func(f *verifyFixture) {
			f.row("ever", 5, func(*feature.Version) {})
		}, "ever@1 origin=SFO other_value"},
		{"an older row", newest, load + "at 10:30 expect ever:last_delay origin=SFO = 4", func(f *verifyFixture) {
			f.row("ever", 2, func(v *feature.Version) { v.EventTime, v.Minor = v.EventTime-600e6, 1 })
		}, "ever@1 origin=SFO older_row"},
		{"a row that is not there", newest, load + "at 10:30 expect ever:last_delay origin=SFO = 4", func(f *verifyFixture) {
			f.row("ever", 5, func(v *feature.Version) { v.EventTime += 1e6 })
		}, "ever@1 origin=SFO missing_row"},
		{"a row that the log gets later", newest, load + "at 10:30 expect ever:last_delay origin=SFO = 4", func(f *verifyFixture) {
			f.row("ever", 5, func(v *feature.Version) { v.EventTime, v.Minor = v.EventTime+1e6, 4 })
		}, "ever@1 ahead 1"},
		{"no record", newest, load + "at 10:30 expect ever:last_delay origin=SFO = 4", func(f *verifyFixture) {
			points, err := f.app.on.Resumes(f.t.Context(), "ever", 1)
			if err == nil {
				err = f.app.on.Drop(f.t.Context(), "ever", 1)
			}
			if err == nil {
				err = f.app.on.SetResumes(f.t.Context(), points)
			}
			if err != nil {
				f.t.Fatal(err)
			}
		}, "ever@1 origin=JFK no_record; ever@1 origin=SFO no_record"},
		{"a row that is not streamed", newest, load + "at 10:30 expect late:late_delay origin=SFO = NOT_FOUND", func(f *verifyFixture) {
			f.offlineOnly("start 2024-03-01\nload departures\n  date,  origin, delay\n  10:25, OAK,    16\nat 10:30 expect late:late_delay origin=OAK = 16")
		}, "ever@1 origin=OAK not_streamed; late@1 origin=OAK not_streamed; latest@1 origin=OAK not_streamed; newest_of_all@1  not_streamed"},
		{"a row that is not materialized", newest, "start 2024-03-01\nload runways\n  since, told, origin\n  10:00, 10:00, SFO\nat 10:00 expect runway:open origin=SFO = null", func(f *verifyFixture) {
			f.offlineOnly("start 2024-03-01\nload runways\n  since, told, origin, open\n  10:10, 10:10, SFO, true\nat 10:10 expect runway:open origin=SFO = true")
		}, "runway@1 origin=SFO not_materialized"},

		{"windows", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) { f.state("delays", same) }, ""},
		{"a bit of a state", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.tamper("delays", func(r []byte) []byte { r[30] ^= 1; return r })
		}, "delays@1 origin=SFO corrupt_record"},
		{"the same state", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.state("delays", same, [2]int64{600, 1}, [2]int64{610, 2}, [2]int64{620, 4})
		}, ""},
		{"a lost event", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.state("delays", same, [2]int64{600, 1}, [2]int64{620, 4})
		}, "delays@1 origin=SFO lost_event"},
		{"an event counted twice", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.state("delays", same, [2]int64{600, 1}, [2]int64{610, 2}, [2]int64{610, 2}, [2]int64{620, 4})
		}, "delays@1 origin=SFO counted_twice"},
		{"other events", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.state("delays", same, [2]int64{600, 100}, [2]int64{601, 200})
		}, "delays@1 origin=SFO other_value"},
		{"a state of before the build", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.state("delays", func(epoch, offset int64) (int64, int64) { return epoch - 1, offset }, [2]int64{600, 1})
		}, "delays@1 origin=SFO old_epoch"},
		{"a state that is ahead of the log", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.state("delays", func(epoch, offset int64) (int64, int64) { return epoch, offset + 2 }, [2]int64{600, 1}, [2]int64{625, 9})
		}, "delays@1 ahead 1"},
		{"an event that is not streamed", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.offlineOnly("start 2024-03-01\nload departures\n  date,  origin\n  10:25, SFO\nat 10:30 expect delays:count_1h origin=SFO = 4")
		}, "delays@1 origin=SFO not_streamed"},
		{"a late event that is not streamed", windows, load + "at 10:30 expect delays:delay_sum_1h origin=SFO = 7", func(f *verifyFixture) {
			f.offlineOnly("start 2024-03-01\nload departures\n  date,  ingested_at, origin\n  10:15, 10:25, SFO\nat 10:30 expect delays:count_1h origin=SFO = 4")
		}, "delays@1 origin=SFO late_event"},
		{"an event that an internal topic has not got", "testdata/scripts/entities", `start 2024-03-01
load departures
  date,  origin, destination, delay
  10:00, SFO,    JFK,         1
at 10:00 expect arrivals:count_1h destination=JFK = 1
`, func(f *verifyFixture) {
			f.offlineOnly("start 2024-03-01\nload departures\n  date,  origin, destination, delay\n  10:05, SFO, JFK, 2\nat 10:30 expect arrivals:count_1h destination=JFK = 2")
		}, "arrivals@1 destination=JFK not_streamed; everything@1  not_streamed; routes@1 origin=SFO destination=JFK not_streamed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newVerifyFixture(t, test.root, test.script)
			if got := f.reasons(); got != "" {
				t.Fatalf("before anything was changed: %s", got)
			}
			test.change(f)
			if got := f.reasons(); got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
		})
	}
}
