package window

import (
	"encoding/hex"
	"math"
	"testing"

	"github.com/forebay/forebay/registry/feature"
)

// The bytes of docs/format/window-state.md: they never change, and decode forever.
func TestStateGolden(t *testing.T) {
	hour := []Window{{feature.Hour, feature.Minute}, {feature.Lifetime, 0}}
	p, err := Compile([]Aggregation{
		{Func: Count, Input: -1, Where: -1, By: -1, Windows: hour},
		{Func: Sum, Input: 0, Type: feature.TypeInt64, Where: -1, By: -1, Windows: hour},
		{Func: Max, Input: 1, Type: feature.TypeFloat64, Where: 3, By: -1, Windows: hour[:1]},
		{Func: VariancePop, Input: 1, Type: feature.TypeFloat64, Where: -1, By: -1, Windows: hour[:1]},
		{Func: LastN, Input: 2, Type: feature.TypeString, N: 2, Where: -1, By: -1, Windows: hour[:1]},
	})
	if err != nil {
		t.Fatal(err)
	}
	events := []event{
		{version: feature.Version{EventTime: 5, IngestedAt: 7, Major: 1, Minor: 2}, n: feature.OfInt64(-3), x: feature.OfFloat64(0.5), s: feature.OfString("a"), ok: feature.OfBool(true)},
		{version: feature.Version{EventTime: 90 * minute, IngestedAt: 90 * minute, Minor: 3}, n: feature.OfInt64(40), x: feature.OfFloat64(2), s: feature.OfString("b")},
		{version: feature.Version{EventTime: 90*minute + 1, IngestedAt: 90 * minute, Minor: 4}, n: feature.OfInt64(2)},
		{version: feature.Version{EventTime: 90*minute + 2, IngestedAt: 90 * minute, Minor: 5}, n: feature.OfInt64(-7), x: feature.OfFloat64(math.Pi)},
		{version: feature.Version{EventTime: 90*minute + 3, IngestedAt: 90 * minute, Minor: 6}, x: feature.OfFloat64(0.1)},
	}
	b := batchOf(events)
	s := &State{}
	for i := range events {
		p.Add(s, Row{Version: b.Versions[i], Columns: b.Columns, Index: i})
	}
	const golden = "0286d8eb9d2802b2010202500002200280d8eb9d280000060162010604120004116d019eec82110f9e4d1fdb0102784b7042062c6148f8b274019c29000102020502510251020a0402040161"
	if got := hex.EncodeToString(p.Append(nil, s)); got != golden {
		t.Errorf("encoded as %s, want %s", got, golden)
	}
	raw, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	back, err := p.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	values, found := p.Values(back, 0, &Scratch{}, nil)
	text := ""
	for _, v := range values {
		text += v.String() + " "
	}
	if want := `4 5 35 32 null 1.5738355174557317 ["b"] `; !found || text != want {
		t.Errorf("values %s, want %s", text, want)
	}
}
