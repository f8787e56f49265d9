package materializetest

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/spec"
)

// windowViews are windowed views of the source events, per user, and per shop.
const windowViews = `
kind: Entity
name: user
join_keys: [{name: user, type: string}]
---
kind: Entity
name: shop
join_keys: [{name: shop, type: int64}]
---
kind: Source
name: events
timestamp: time
columns: {time: timestamp, user: string, shop: int64, amount: int64, note: string}
kafka: {topic: %q, format: json, key: [%s]}
---
kind: FeatureView
name: shop_windows
entities: [shop]
source: events
filter: "amount == null || amount != 7"
aggregations:
  - {function: count, windows: [1h, 24h, 7d, lifetime]}
  - {function: sum, column: amount, windows: [1h, 7d]}
  - {function: min, column: amount, windows: [24h]}
  - {function: distinct_count, column: user, windows: [24h]}
---
kind: FeatureView
name: user_windows
entities: [user]
source: events
aggregations:
  - {function: count, windows: [1h, 24h, 7d]}
  - {function: sum, column: amount, windows: [1h, 24h, 7d]}
  - {function: mean, column: amount, windows: [24h]}
  - {function: max, column: amount, windows: [1h, 7d]}
  - {function: last_n, column: note, n: 3, windows: [7d]}
  - {function: count, column: amount, where: "amount > 15", windows: [24h], name: many}
hop: {24h: 5m}
`

// WindowFeatures is the YAML of WithWindows, without the views of newest rows.
func WindowFeatures(topic string, key ...string) string {
	return fmt.Sprintf(windowViews, topic, strings.Join(key, ", "))
}

// WithWindows is Project with two windowed views more, user_windows and shop_windows; its topic is
// keyed by some columns.
func WithWindows(topic, format string, key ...string) (*registry.Project, error) {
	repo, diagnostics := spec.LoadFS(fstest.MapFS{
		"forebay.yaml":  {Data: []byte("version: 1\nproject: test\n")},
		"features.yaml": {Data: []byte(WindowFeatures(topic, key...))},
	})
	if len(diagnostics) > 0 {
		return nil, fmt.Errorf("%w", diagnostics)
	}
	p := Project(topic, format)
	p.Sources[0].Kafka.Key = key
	// As spec has them, in the order of their names.
	p.Views = []registry.FeatureView{p.Views[0], repo.Project.Views[0], p.Views[1], repo.Project.Views[1]}
	return p, nil
}

// WindowValues are the features of a windowed view at an instant as WindowOracle writes them.
func WindowValues(v registry.ViewGeneration, r materialize.WindowRecord, at int64) (string, error) {
	plan, err := window.ForView(v.View)
	if err != nil {
		return "", err
	}
	state, err := plan.Decode(r.State)
	if err != nil {
		return "", err
	}
	var scratch window.Scratch
	values, found := plan.Values(state, at, &scratch, nil)
	var out []string
	for i, value := range values {
		text := string(value.AppendJSON(nil))
		if value.IsInvalid() {
			text = "INVALID"
		} else if value.Kind() == feature.Float64 {
			text = rounded(value.Float64())
		}
		out = append(out, v.View.Features[i].Name+"="+text)
	}
	return fmt.Sprintf("found=%t %s", found, strings.Join(out, " ")), nil
}

// rounded is a float64 to 12 digits.
func rounded(f float64) string { return strconv.FormatFloat(f, 'e', 11, 64) }

const (
	hour = int64(3600e6)
	day  = 24 * hour
)

// windowOracle computes one feature of events by brute force; the events are of one entity, in the order of their versions.
type windowOracle struct {
	name        string
	length, hop int64 // 0: lifetime
	of          func(events []Event) string
}

func count(events []Event) string { return strconv.Itoa(len(events)) }

func amounts(events []Event) (all []int64) {
	for _, e := range events {
		if e.Amount != nil {
			all = append(all, *e.Amount)
		}
	}
	return all
}

func total(events []Event) (*big.Int, int) {
	sum, n := new(big.Int), 0
	for _, a := range amounts(events) {
		sum.Add(sum, big.NewInt(a))
		n++
	}
	return sum, n
}

func sum(events []Event) string {
	switch s, n := total(events); {
	case n == 0:
		return "null"
	case !s.IsInt64():
		return "INVALID"
	default:
		return s.String()
	}
}

func mean(events []Event) string {
	s, n := total(events)
	if n == 0 {
		return "null"
	}
	f, _ := new(big.Rat).SetFrac(s, big.NewInt(int64(n))).Float64()
	return rounded(f)
}

func least(events []Event) string {
	if all := amounts(events); len(all) > 0 {
		return strconv.FormatInt(slices.Min(all), 10)
	}
	return "null"
}

func greatest(events []Event) string {
	if all := amounts(events); len(all) > 0 {
		return strconv.FormatInt(slices.Max(all), 10)
	}
	return "null"
}

func lastNotes(events []Event) string {
	var notes []string
	for _, e := range events {
		if e.Note != nil {
			notes = append(notes, jsonText(e.Note))
		}
	}
	if len(notes) == 0 {
		return "null"
	}
	return "[" + strings.Join(notes[max(0, len(notes)-3):], ",") + "]"
}

func many(events []Event) string {
	n := 0
	for _, a := range amounts(events) {
		if a > 15 {
			n++
		}
	}
	return strconv.Itoa(n)
}

func users(events []Event) string {
	seen := map[string]bool{}
	for _, e := range events {
		if e.User != nil {
			seen[*e.User] = true
		}
	}
	return strconv.Itoa(len(seen))
}

const minute = hour / 60

var windowOracles = map[string][]windowOracle{
	"user_windows": {
		{"count_1h", hour, minute, count}, {"count_24h", day, 5 * minute, count}, {"count_7d", 7 * day, hour, count},
		{"amount_sum_1h", hour, minute, sum}, {"amount_sum_24h", day, 5 * minute, sum}, {"amount_sum_7d", 7 * day, hour, sum},
		{"amount_mean_24h", day, 5 * minute, mean},
		{"amount_max_1h", hour, minute, greatest}, {"amount_max_7d", 7 * day, hour, greatest},
		{"note_last_3_7d", 7 * day, hour, lastNotes},
		{"many_24h", day, 5 * minute, many},
	},
	"shop_windows": {
		{"count_1h", hour, minute, count}, {"count_24h", day, hour, count}, {"count_7d", 7 * day, hour, count}, {"count_lifetime", 0, 0, count},
		{"amount_sum_1h", hour, minute, sum}, {"amount_sum_7d", 7 * day, hour, sum},
		{"amount_min_24h", day, hour, least},
		{"user_distinct_count_24h", day, hour, users},
	},
}

// WindowOracle says what the windows of WithWindows have at an instant, by brute force: for each view, by entity.
func WindowOracle(events []Event, at int64) map[string]map[string]string {
	of := map[string]map[string][]Event{"user_windows": {}, "shop_windows": {}}
	for _, e := range events {
		if e.User != nil {
			of["user_windows"][*e.User] = append(of["user_windows"][*e.User], e)
		}
		if e.Shop != nil && (e.Amount == nil || *e.Amount != 7) {
			shop := strconv.FormatInt(*e.Shop, 10)
			of["shop_windows"][shop] = append(of["shop_windows"][shop], e)
		}
	}
	want := map[string]map[string]string{"user_windows": {}, "shop_windows": {}}
	for view, entities := range of {
		for entity, events := range entities {
			slices.SortFunc(events, func(a, b Event) int { return a.Version().Compare(b.Version()) })
			longest, out := int64(math.MinInt64), []string{}
			found := false
			for _, o := range windowOracles[view] {
				after := int64(math.MinInt64)
				if o.length > 0 {
					after = at - o.length
					after -= ((after % o.hop) + o.hop) % o.hop
				}
				var in []Event
				for _, e := range events {
					if (o.length == 0 || e.Time > after) && e.Time <= at {
						in = append(in, e)
					}
				}
				out = append(out, o.name+"="+o.of(in))
				if o.length == 0 || longest != math.MaxInt64 && o.length >= longest {
					longest, found = o.length, len(in) > 0
					if o.length == 0 {
						longest = math.MaxInt64
					}
				}
			}
			want[view][entity] = fmt.Sprintf("found=%t %s", found, strings.Join(out, " "))
		}
	}
	return want
}

// WindowDifferences compares windowed views of the store with the oracle, at instants from the newest event on.
func (s *Store) WindowDifferences(p *registry.Project, events []Event) []string {
	return WindowDifferences(p, events, s.WindowStates)
}

// WindowDifferences compares the states of windowed views, by entity key, with the oracle.
func WindowDifferences(p *registry.Project, events []Event, states func(registry.ViewGeneration) map[string]materialize.WindowRecord) []string {
	var diffs []string
	newest := int64(math.MinInt64)
	for _, e := range events {
		newest = max(newest, e.Time)
	}
	for _, v := range Generations(p) {
		if !v.View.Windowed() {
			continue
		}
		records := states(v)
		for _, at := range []int64{newest, newest + 17*minute + 1, newest + 3*hour, newest + 2*day, newest + 9*day} {
			want := WindowOracle(events, at)[v.View.Name]
			for entity, text := range want {
				key := feature.AppendKey(nil, feature.OfString(entity), true)
				if v.View.Name == "shop_windows" {
					n, _ := strconv.ParseInt(entity, 10, 64)
					key = feature.AppendKey(nil, feature.OfInt64(n), true)
				}
				r, ok := records[string(key)]
				if !ok {
					diffs = append(diffs, fmt.Sprintf("%s: there is nothing of %s", v, entity))
					continue
				}
				got, err := WindowValues(v, r, at)
				if err != nil {
					got = err.Error()
				}
				if got != text {
					diffs = append(diffs, fmt.Sprintf("%s %s at %s (epoch %d, offset %d):\n\tgot  %s\n\twant %s", v, entity, feature.FormatTimestamp(at), r.Epoch, r.Offset, got, text))
				}
			}
			if len(records) != len(want) {
				diffs = append(diffs, fmt.Sprintf("%s has %d entities, want %d", v, len(records), len(want)))
			}
		}
	}
	return diffs
}
