package offlinetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
)

// oracle finds, by looking at all of them, the newest row of a key at or before an instant.
func oracle(rows []viewRow, key []feature.Value, at int64, knownAt *int64) (best viewRow, ok bool) {
next:
	for _, r := range rows {
		for i, k := range key {
			if k.IsNull() || !k.Equal(r.values[i]) {
				continue next
			}
		}
		if r.version.EventTime > at || knownAt != nil && r.version.IngestedAt > *knownAt {
			continue
		}
		if !ok || r.version.Compare(best.version) > 0 {
			best, ok = r, true
		}
	}
	return best, ok
}

// testJoinAgainstOracle: random histories, views, roles, ttls, known_at and spines.
func testJoinAgainstOracle(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	var all []row
	next := int64(0)
	names := make([]string, 0, len(viewKeys))
	for _, v := range p.Views {
		if _, ok := viewKeys[v.Name]; ok {
			names = append(names, v.Name)
		}
	}
	for round := range 8 {
		rows := make([]row, 1+rng.IntN(60))
		for i := range rows {
			rows[i] = randomRow(rng, 60)
		}
		if rng.IntN(2) == 0 {
			appendFile(t, s, src, "f", fmt.Sprint("h", round), rows)
		} else {
			if err := appendStream(t, s, src, 1, next, rows); err != nil {
				t.Fatal(err)
			}
			next += int64(len(rows))
		}
		all = append(all, rows...)
		for _, n := range names {
			refresh(t, s, view(p, n, 1))
		}
		checkJoin(t, s, rng, names, all)
	}
}

func checkJoin(t *testing.T, s offline.Store, rng *rand.Rand, names []string, all []row) {
	t.Helper()
	p := project()
	// The spine: every key column in two roles, an instant, and a column to pass through.
	fields := []feature.Field{{Name: "when", Type: feature.TypeTimestamp}, {Name: "label", Type: feature.TypeString}}
	for _, f := range columns[1:9] {
		fields = append(fields, f, feature.Field{Name: "other_" + f.Name, Type: f.Type})
	}
	spine := feature.NewBatch(fields, 0)
	for range rng.IntN(300) {
		if spine.Rows > 0 && rng.IntN(10) == 0 {
			spine.AppendRow(spine, rng.IntN(spine.Rows)) // a duplicate
			continue
		}
		for i, f := range fields {
			switch {
			case rng.IntN(15) == 0:
				spine.Columns[i].AppendNull()
			case i == 0 && rng.IntN(12) == 0:
				spine.Columns[i].Append(feature.OfTimestamp([]int64{feature.MinTimestamp, feature.MaxTimestamp, -1 << 63, 1<<63 - 1}[rng.IntN(4)]))
			case i == 0:
				spine.Columns[i].Append(feature.OfTimestamp(rng.Int64N(80) - 40))
			default:
				spine.Columns[i].Append(randomValue(rng, f.Type))
			}
		}
		spine.Rows++
	}
	req := offline.JoinRequest{Timestamp: "when", NoVersions: rng.IntN(2) == 0}
	if rng.IntN(2) == 0 {
		k := rng.Int64N(6) - 1
		req.KnownAt = &k
	}
	if rng.IntN(2) == 0 {
		req.Memory = 1 << 10 // a few rows at a time then
	}
	for range 1 + rng.IntN(4) {
		v := view(p, names[rng.IntN(len(names))], 1)
		r := offline.Role{View: v}
		other := rng.IntN(2) == 0
		for _, k := range viewKeys[v.View.Name] {
			if other {
				k = "other_" + k
			}
			r.Keys = append(r.Keys, k)
		}
		for f := range v.View.Features {
			if rng.IntN(3) > 0 {
				r.Features = append(r.Features, f)
			}
		}
		rng.Shuffle(len(r.Features), func(i, j int) { r.Features[i], r.Features[j] = r.Features[j], r.Features[i] })
		switch rng.IntN(3) {
		case 0:
			r.TTL = feature.Duration(1 + rng.Int64N(40))
		case 1:
			r.TTL = feature.Lifetime
		}
		req.Roles = append(req.Roles, r)
	}
	done := int64(0)
	req.Progress = func(d, total int64) {
		if d < done || total != 0 && d != total {
			t.Errorf("progress %d of %d after %d", d, total, done)
		}
		done = d
	}
	req.Spine = batches(spine, 1+rng.IntN(100))
	back, got := join(t.Context(), t, s, req)
	if spine.Rows == 0 {
		if back != nil {
			t.Fatal("rows of an empty spine")
		}
		return
	}
	if back.Rows != spine.Rows || done != int64(spine.Rows) {
		t.Fatalf("%d rows back, %d by progress, of %d", back.Rows, done, spine.Rows)
	}
	for i := range spine.Rows {
		for j, c := range spine.Columns {
			if !c.Value(i).Equal(back.Columns[j].Value(i)) {
				t.Fatalf("spine row %d, column %s: %v came back as %v", i, c.Name, c.Value(i), back.Columns[j].Value(i))
			}
		}
	}
	for k, r := range req.Roles {
		rows, _ := viewRows(r.View, all)
		for i := range spine.Rows {
			what := fmt.Sprintf("role %d (%s, ttl %d, known at %v), spine row %d", k, r.View, int64(r.TTL), req.KnownAt, i)
			var key []feature.Value
			for _, c := range r.Keys {
				key = append(key, spine.Column(c).Value(i))
			}
			want := joinedRow{status: feature.NotFound, values: make([]feature.Value, len(r.Features))}
			when := spine.Columns[0].Value(i)
			if !when.IsNull() {
				if best, ok := oracle(rows, key, when.Int64(), req.KnownAt); ok {
					want.version, want.status = best.version, feature.Present
					if r.TTL > 0 && best.version.EventTime < subtract(when.Int64(), int64(r.TTL)) {
						want.status = feature.OutsideMaxAge
					} else {
						for n, f := range r.Features {
							want.values[n] = best.values[len(r.Keys)+f]
						}
					}
				}
			}
			if req.NoVersions {
				want.version = feature.Version{}
			}
			have := got[k][i]
			if have.status != want.status || have.version != want.version {
				t.Fatalf("%s: key %v at %v: %v %+v, want %v %+v", what, key, when, have.status, have.version, want.status, want.version)
			}
			for n := range want.values {
				if !have.values[n].Equal(want.values[n]) {
					t.Fatalf("%s: feature %s is %v, want %v", what, r.View.View.Features[r.Features[n]].Name, have.values[n], want.values[n])
				}
			}
		}
	}
}

// subtract is a - b, or the least number where that is less.
func subtract(a, b int64) int64 {
	if d := a - b; d <= a {
		return d
	}
	return -1 << 63
}

// testJoinSpines: spines with mistakes, and what becomes of them.
func testJoinSpines(t *testing.T, s offline.Store) {
	p := project()
	rng := rand.New(rand.NewPCG(seed(t), 0))
	v := view(p, "by_id", 1)
	rows := make([]row, 50)
	for i := range rows {
		rows[i] = randomRow(rng, 50)
	}
	appendFile(t, s, p.Source("events"), "f", "h", rows)
	refresh(t, s, v)
	spine := feature.NewBatch([]feature.Field{columns[1], {Name: "when", Type: feature.TypeTimestamp}, columns[2]}, 0)
	for range 40000 { // more than one batch out
		spine.Columns[0].Append(randomValue(rng, feature.TypeInt64))
		spine.Columns[1].Append(feature.OfTimestamp(rng.Int64N(50) - 25))
		spine.Columns[2].Append(feature.OfString("x"))
		spine.Rows++
	}
	role := offline.Role{View: v, Keys: []string{"id"}, Features: []int{0}}
	fails := func(what string, r offline.JoinRequest) {
		t.Helper()
		var last error
		for _, err := range s.Join(t.Context(), r) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: no error", what)
		}
	}
	fails("no instant", offline.JoinRequest{Spine: batches(spine, 10), Timestamp: "nope", Roles: []offline.Role{role}})
	fails("an instant of another type", offline.JoinRequest{Spine: batches(spine, 10), Timestamp: "name", Roles: []offline.Role{role}})
	fails("no key", offline.JoinRequest{Spine: batches(spine, 10), Timestamp: "when", Roles: []offline.Role{{View: v, Keys: []string{"nope"}, Features: []int{0}}}})
	fails("a key of another type", offline.JoinRequest{Spine: batches(spine, 10), Timestamp: "when", Roles: []offline.Role{{View: v, Keys: []string{"name"}, Features: []int{0}}}})
	fails("too few keys", offline.JoinRequest{Spine: batches(spine, 10), Timestamp: "when", Roles: []offline.Role{{View: v, Features: []int{0}}}})
	boom := errors.New("boom")
	var last error
	for _, err := range s.Join(t.Context(), offline.JoinRequest{Timestamp: "when", Roles: []offline.Role{role}, Spine: func(yield func(*feature.Batch, error) bool) {
		if yield(spine, nil) {
			yield(nil, boom)
		}
	}}) {
		last = err
	}
	if !errors.Is(last, boom) {
		t.Errorf("a spine that fails: %v", last)
	}
	n := 0
	for _, err := range s.Join(t.Context(), offline.JoinRequest{Spine: batches(spine, 1000), Timestamp: "when", Roles: []offline.Role{role}, Memory: 1 << 20}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	// With little memory it comes in many pieces, which are put together as the whole.
	req := offline.JoinRequest{Spine: batches(spine, 7000), Timestamp: "when", Roles: []offline.Role{role, {View: v, Keys: []string{"id"}, Features: []int{1}, TTL: 5}}}
	_, whole := join(t.Context(), t, s, req)
	req.Memory = 1 << 20
	back, pieces := join(t.Context(), t, s, req)
	for i := range spine.Rows {
		if !back.Columns[0].Value(i).Equal(spine.Columns[0].Value(i)) {
			t.Fatalf("row %d has another key", i)
		}
		for k := range whole {
			w, p := whole[k][i], pieces[k][i]
			if w.status != p.status || w.version != p.version || !w.values[0].Equal(p.values[0]) {
				t.Fatalf("row %d, role %d: %+v with little memory, %+v with much", i, k, p, w)
			}
		}
	}
	// The role with no features says what was found all the same.
	role.Features = nil
	back, got := join(t.Context(), t, s, offline.JoinRequest{Spine: batches(spine, 7000), Timestamp: "when", Roles: []offline.Role{role, role}})
	if back.Rows != spine.Rows || len(got[0]) != spine.Rows {
		t.Fatalf("%d rows back of %d", back.Rows, spine.Rows)
	}
	for i := range got[0] {
		if got[0][i].status != got[1][i].status || got[0][i].version != got[1][i].version {
			t.Fatalf("one view in two roles: row %d differs", i)
		}
	}
}
