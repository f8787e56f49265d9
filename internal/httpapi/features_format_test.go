package httpapi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// formatBodies ask for every type, null, unknown and expired values, and nothing at all.
var formatBodies = []string{
	`{"features":["driver_stats","driver_types"],"entities":[{"driver_id":1001},{"driver_id":1002},{"driver_id":1003},{"driver_id":1004},{"driver_id":1005},{"driver_id":1007}]}`,
	`{"features":["driver_recent","driver_stats:label"],"entities":[{"driver_id":1001},{"driver_id":1002},{"driver_id":424242},{"driver_id":null}]}`,
	`{"service":"driver_svc","omit":["statuses","event_timestamps"],"entities":[{"driver_id":1001}]}`,
	`{"service":"driver_svc","entities":[]}`,
}

type jsonAnswer struct {
	Instant  string   `json:"instant"`
	Features []string `json:"features"`
	Rows     []struct {
		Values   []json.RawMessage `json:"values"`
		Statuses []string          `json:"statuses"`
		Times    []*time.Time      `json:"event_timestamps"`
	} `json:"rows"`
}

// The same lookup as JSON is the oracle of the others.
func jsonOf(t *testing.T, h http.Handler, body string) (a jsonAnswer) {
	t.Helper()
	res := ask(t, h, http.MethodPost, api.PathFeatures, body)
	if err := json.Unmarshal(res.Body.Bytes(), &a); err != nil {
		t.Fatalf("%v: %s", err, res.Body)
	}
	return a
}

func TestFeaturesAsMessagePack(t *testing.T) {
	h := newTestServer(t, Config{}, newStoreEngine(t)).Handler()
	for _, body := range formatBodies {
		want := jsonOf(t, h, body)
		res := ask(t, h, http.MethodPost, api.PathFeatures, body, "Accept", api.TypeMessagePack)
		if res.Code != http.StatusOK || res.Header().Get("Content-Type") != api.TypeMessagePack || res.Header().Get(api.HeaderInstant) != want.Instant {
			t.Fatalf("%d %v: %s", res.Code, res.Header(), res.Body)
		}
		doc, rest := unpack(t, res.Body.Bytes())
		if len(rest) > 0 {
			t.Errorf("%d bytes too many", len(rest))
		}
		top := doc.(map[string]any)
		if fmt.Sprint(top["features"]) != fmt.Sprint(want.Features) || top["revision"] != res.Header().Get(api.HeaderRevision) {
			t.Errorf("%v", top)
		}
		rows := top["rows"].([]any)
		if len(rows) != len(want.Rows) {
			t.Fatalf("%d rows, want %d", len(rows), len(want.Rows))
		}
		for i, row := range rows {
			row := row.(map[string]any)
			for j, v := range row["values"].([]any) {
				if got := asFeature(v).AppendJSON(nil); string(got) != string(want.Rows[i].Values[j]) {
					t.Errorf("%s row %d: %s, want %s", want.Features[j], i, got, want.Rows[i].Values[j])
				}
			}
			if (row["statuses"] == nil) != (want.Rows[i].Statuses == nil) || row["statuses"] != nil && fmt.Sprint(row["statuses"]) != fmt.Sprint(want.Rows[i].Statuses) {
				t.Errorf("row %d: statuses %v, want %v", i, row["statuses"], want.Rows[i].Statuses)
			}
			if (row["event_timestamps"] == nil) != (want.Rows[i].Times == nil) {
				t.Errorf("row %d: event times %v", i, row["event_timestamps"])
			} else if want.Rows[i].Times != nil {
				for j, at := range row["event_timestamps"].([]any) {
					if wanted := want.Rows[i].Times[j]; (at == nil) != (wanted == nil) || at != nil && !at.(time.Time).Equal(*wanted) {
						t.Errorf("row %d: %v, want %v", i, at, wanted)
					}
				}
			}
		}
	}
}

// unpack reads a value of MessagePack, as its specification has it.
func unpack(t *testing.T, b []byte) (any, []byte) {
	t.Helper()
	take := func(n int) []byte {
		if n > len(b) {
			t.Fatalf("cut off: want %d bytes of %d", n, len(b))
		}
		part := b[:n]
		b = b[n:]
		return part
	}
	number := func(n int) (v int) {
		for _, c := range take(n) {
			v = v<<8 | int(c)
		}
		return v
	}
	list := func(n int) (any, []byte) {
		vs := make([]any, n)
		for i := range vs {
			vs[i], b = unpack(t, b)
		}
		return vs, b
	}
	switch c := take(1)[0]; {
	case c < 0x80, c >= 0xe0:
		return int64(int8(c)), b
	case c < 0x90:
		m := map[string]any{}
		for range c & 15 {
			var k, v any
			k, b = unpack(t, b)
			v, b = unpack(t, b)
			m[k.(string)] = v
		}
		return m, b
	case c < 0xa0:
		return list(int(c & 15))
	case c < 0xc0:
		return string(take(int(c & 31))), b
	case c == 0xc0:
		return nil, b
	case c == 0xc2, c == 0xc3:
		return c == 0xc3, b
	case c == 0xc4:
		return take(number(1)), b
	case c == 0xca:
		return math.Float32frombits(binary.BigEndian.Uint32(take(4))), b
	case c == 0xcb:
		return math.Float64frombits(binary.BigEndian.Uint64(take(8))), b
	case c == 0xd2:
		return int64(int32(binary.BigEndian.Uint32(take(4)))), b
	case c == 0xd3:
		return int64(binary.BigEndian.Uint64(take(8))), b
	case c == 0xd7:
		if take(1)[0] != 0xff {
			t.Fatal("not an instant")
		}
		n := binary.BigEndian.Uint64(take(8))
		return time.Unix(int64(n&(1<<34-1)), int64(n>>34)), b
	case c == 0xc7:
		if n := take(2); n[0] != 12 || n[1] != 0xff {
			t.Fatal("not an instant")
		}
		nanos := int64(binary.BigEndian.Uint32(take(4)))
		return time.Unix(int64(binary.BigEndian.Uint64(take(8))), nanos), b
	case c == 0xd9:
		return string(take(number(1))), b
	case c == 0xda:
		return string(take(number(2))), b
	case c == 0xdc:
		return list(number(2))
	default:
		t.Fatalf("form %#x", c)
		return nil, nil
	}
}

// asFeature is an unpacked value as one of ours.
func asFeature(v any) feature.Value {
	switch v := v.(type) {
	case bool:
		return feature.OfBool(v)
	case int64:
		return feature.OfInt64(v)
	case float64:
		return feature.OfFloat64(v)
	case string:
		return feature.OfString(v)
	case []byte:
		return feature.OfBytes(v)
	case time.Time:
		return feature.OfTimestamp(v.UnixMicro())
	case []any:
		var vs []feature.Value
		var fs []float32
		for _, e := range v {
			if f, ok := e.(float32); ok {
				fs = append(fs, f)
				continue
			}
			vs = append(vs, asFeature(e))
		}
		if fs != nil {
			return feature.OfEmbedding(fs)
		}
		kind := feature.Int64
		if len(vs) > 0 {
			kind = vs[0].Kind()
		}
		return feature.OfList(kind, vs)
	}
	return feature.Value{}
}

func TestPackedNumbers(t *testing.T) {
	for _, n := range []int64{0, 1, 127, 128, -1, -32, -33, 1 << 31, 1<<31 - 1, -1 << 31, -1<<31 - 1, math.MaxInt64, math.MinInt64} {
		if got, _ := unpack(t, packInt(nil, n)); got != n {
			t.Errorf("%d came back as %v", n, got)
		}
	}
	for _, micros := range []int64{0, 1, -1, 1767323045678901, 1<<34*1000000 - 1, 1 << 34 * 1000000, -62135596800000000} {
		if got, _ := unpack(t, packInstant(nil, micros)); got.(time.Time).UnixMicro() != micros {
			t.Errorf("%d came back as %v", micros, got)
		}
	}
}

func TestFeaturesAsArrow(t *testing.T) {
	h := newTestServer(t, Config{}, newStoreEngine(t)).Handler()
	for _, body := range formatBodies {
		want := jsonOf(t, h, body)
		res := ask(t, h, http.MethodPost, api.PathFeatures, body, "Accept", "application/x-nothing, "+api.TypeArrow+";q=0.9, application/json;q=0.1")
		if res.Code != http.StatusOK || res.Header().Get("Content-Type") != api.TypeArrow || res.Header().Get(api.HeaderInstant) != want.Instant {
			t.Fatalf("%d %v: %s", res.Code, res.Header(), res.Body)
		}
		r, err := ipc.NewReader(bytes.NewReader(res.Body.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if !r.Next() {
			t.Fatal("no record")
		}
		rec := r.Record()
		if int(rec.NumRows()) != len(want.Rows) {
			t.Fatalf("%d rows, want %d", rec.NumRows(), len(want.Rows))
		}
		for i := range want.Rows {
			for j, name := range want.Features {
				if rec.ColumnName(j) != name {
					t.Fatalf("column %d is %s, want %s", j, rec.ColumnName(j), name)
				}
				if got := arrowJSON(rec.Column(j), i); got != string(want.Rows[i].Values[j]) {
					t.Errorf("%s row %d: %s, want %s", name, i, got, want.Rows[i].Values[j])
				}
			}
			at := len(want.Features)
			if want.Rows[i].Statuses != nil {
				list := rec.Column(at).(*array.FixedSizeList).ListValues().(*array.Uint8)
				for j, status := range want.Rows[i].Statuses {
					if got := feature.Status(list.Value(i*len(want.Features) + j)); got.String() != status {
						t.Errorf("row %d: %v, want %s", i, got, status)
					}
				}
				at++
			}
			if want.Rows[i].Times != nil {
				list := rec.Column(at).(*array.FixedSizeList).ListValues().(*array.Timestamp)
				for j, wanted := range want.Rows[i].Times {
					k := i*len(want.Features) + j
					if list.IsNull(k) != (wanted == nil) || wanted != nil && int64(list.Value(k)) != wanted.UnixMicro() {
						t.Errorf("row %d: %v, want %v", i, list.Value(k), wanted)
					}
				}
			}
		}
		if r.Next() || r.Err() != nil {
			t.Errorf("a second record, or %v", r.Err())
		}
	}
}

// arrowJSON is a cell as our JSON has it.
func arrowJSON(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "null"
	}
	return string(arrowValue(a, i).AppendJSON(nil))
}

func arrowValue(a arrow.Array, i int) feature.Value {
	list := func(values arrow.Array, from, to int64) (vs []feature.Value) {
		for k := from; k < to; k++ {
			vs = append(vs, arrowValue(values, int(k)))
		}
		return vs
	}
	switch a := a.(type) {
	case *array.Boolean:
		return feature.OfBool(a.Value(i))
	case *array.Int64:
		return feature.OfInt64(a.Value(i))
	case *array.Float64:
		return feature.OfFloat64(a.Value(i))
	case *array.String:
		return feature.OfString(a.Value(i))
	case *array.Binary:
		return feature.OfBytes(a.Value(i))
	case *array.Timestamp:
		return feature.OfTimestamp(int64(a.Value(i)))
	case *array.List:
		from, to := a.ValueOffsets(i)
		vs := list(a.ListValues(), from, to)
		kind := feature.Int64
		if len(vs) > 0 {
			kind = vs[0].Kind()
		}
		return feature.OfList(kind, vs)
	case *array.FixedSizeList:
		from, to := a.ValueOffsets(i)
		return feature.OfEmbedding(a.ListValues().(*array.Float32).Float32Values()[from:to])
	}
	panic(fmt.Sprintf("%T", a))
}

func TestAccept(t *testing.T) {
	for accept, want := range map[string]int{
		"": 0, "*/*": 0, "application/json": 0, "text/html, */*;q=0.1": 0, "application/json;q=0.5, application/msgpack": 2,
		"application/x-msgpack": 2, "APPLICATION/vnd.apache.arrow.stream": 1, "*/*, application/vnd.apache.arrow.stream;q=0.2": 1,
		"text/html": -1, "application/json;q=0": -1, "application/msgpack;q=x": -1,
	} {
		var header []string
		if accept != "" {
			header = []string{accept}
		}
		got, err := lookupFormatOf(header)
		if want < 0 && err == nil || want >= 0 && (err != nil || int(got) != want) {
			t.Errorf("%q: %d, %v, want %d", accept, got, err, want)
		}
	}
}
