package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/internal/telemetry"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// fakeEngine answers the real server's requests: a lookup of service "all" gives
// a row of every type for id 9007199254740993, and nothing for others.
type fakeEngine struct {
	asked   selection.Request
	pushed  []string
	build   func(httpapi.DatasetRequest) (api.Dataset, error)
	away    atomic.Int32 // lookups to refuse
	lookups atomic.Int32
}

const bigID = 9007199254740993 // no float64 is equal to it

func (e *fakeEngine) Revision(context.Context) (*registry.Revision, error) {
	return &registry.Revision{ID: "sha256:1", Project: &registry.Project{Name: "fake"}}, nil
}

func (e *fakeEngine) Plan(_ context.Context, req selection.Request) (httpapi.Plan, error) {
	e.asked = req
	if req.Service == "none" {
		return nil, &selection.Error{Code: selection.UnknownService, Name: "none", Msg: `no service "none"`}
	}
	return fakePlan{e}, nil
}

type fakePlan struct{ engine *fakeEngine }

func (fakePlan) Revision() string { return "sha256:1" }

var outputs = []struct {
	name  string
	value feature.Value
	typ   feature.Type
}{
	{"i", feature.OfInt64(-bigID), feature.TypeInt64},
	{"f", feature.OfFloat64(3), feature.TypeFloat64},
	{"nan", feature.OfFloat64(nan()), feature.TypeFloat64},
	{"b", feature.OfBool(true), feature.TypeBool},
	{"s", feature.OfString("zoë \"🚚\"\n"), feature.TypeString},
	{"y", feature.OfBytes([]byte{0, 1, 255}), feature.TypeBytes},
	{"t", feature.OfTimestamp(1767323045678901), feature.TypeTimestamp},
	{"li", feature.OfList(feature.Int64, []feature.Value{feature.OfInt64(1), feature.OfInt64(bigID)}), feature.ListOf(feature.Int64)},
	{"ls", feature.OfList(feature.String, []feature.Value{feature.OfString(`a"b`), feature.OfString("")}), feature.ListOf(feature.String)},
	{"e", feature.OfEmbedding([]float32{0.5, -1}), feature.EmbeddingOf(2)},
	{"null", feature.Value{}, feature.TypeInt64},
	{"invalid", feature.Invalid(), feature.TypeInt64},
}

func nan() float64 { var zero float64; return zero / zero }

func (fakePlan) Selection() *selection.Selection {
	sel := &selection.Selection{
		Keys:    []feature.Field{{Name: "id", Type: feature.TypeInt64}},
		Request: []feature.Field{{Name: "x", Type: feature.TypeFloat64}},
	}
	for _, o := range outputs {
		sel.Outputs = append(sel.Outputs, selection.Output{Name: o.name, Type: o.typ})
	}
	return sel
}

func (p fakePlan) Lookup(ctx context.Context, keys, _ []*feature.Column, rows int) (*httpapi.Found, error) {
	p.engine.lookups.Add(1)
	if p.engine.away.Add(-1) >= 0 {
		return nil, online.Unavailable("localhost:1", "get", errors.New("refused"))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := &httpapi.Found{Instant: 1767323046000000}
	for _, o := range outputs {
		c := feature.NewColumn(o.name, o.typ, rows)
		statuses, times := make([]feature.Status, rows), make([]int64, rows)
		for i := range rows {
			if keys[0].IsNull(i) || keys[0].Int64s()[i] != bigID {
				c.AppendNull()
				statuses[i], times[i] = feature.NotFound, httpapi.NoTime
				continue
			}
			c.Append(o.value)
			statuses[i], times[i] = feature.StatusOf(o.value), 1767323045500000
		}
		found.Columns = append(found.Columns, c)
		found.Statuses, found.EventTimes = append(found.Statuses, statuses), append(found.EventTimes, times)
	}
	return found, nil
}

func (e *fakeEngine) Push(_ context.Context, source string, rows [][]byte) (api.PushAnswer, error) {
	if source != "events/a b" {
		return api.PushAnswer{}, &httpapi.NotFoundError{Code: api.CodeUnknownSource, Message: fmt.Sprintf("no source %q", source)}
	}
	e.pushed = nil
	answer := api.PushAnswer{Accepted: len(rows)}
	for i, r := range rows {
		e.pushed = append(e.pushed, string(r))
		if strings.Contains(string(r), "bad") {
			answer.Rejected = append(answer.Rejected, api.RejectedRow{Row: i, Field: "bad", Message: "want something else"})
		}
	}
	return answer, nil
}

func (e *fakeEngine) BuildDataset(_ context.Context, req httpapi.DatasetRequest) (api.Dataset, error) {
	return e.build(req)
}

func (e *fakeEngine) Datasets(context.Context) ([]api.Dataset, error) { return nil, nil }
func (e *fakeEngine) Dataset(context.Context, string) (api.Dataset, error) {
	return api.Dataset{}, os.ErrNotExist
}
func (e *fakeEngine) RebuildDataset(_ context.Context, id string, out httpapi.DatasetFile) (api.Dataset, error) {
	if id != "sha256:da7a" {
		return api.Dataset{}, &httpapi.NotFoundError{Code: api.CodeUnknownDataset, Message: "there is no dataset " + id}
	}
	return e.build(httpapi.DatasetRequest{Out: out})
}
func (e *fakeEngine) Ready(context.Context) []api.Check { return nil }

func fakeHandler(t testing.TB, e *fakeEngine, cfg httpapi.Config) http.Handler {
	t.Helper()
	s, err := httpapi.New(httpapi.Options{Config: cfg, Engine: e, Log: slog.New(slog.DiscardHandler), Metrics: telemetry.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

// both runs a test against a server and against its handler in process.
func both(t *testing.T, cfg httpapi.Config, test func(t *testing.T, e *fakeEngine, c *Client)) {
	t.Run("over HTTP", func(t *testing.T) {
		e := &fakeEngine{}
		server := httptest.NewServer(fakeHandler(t, e, cfg))
		defer server.Close()
		c, err := New(server.URL + "/")
		if err != nil {
			t.Fatal(err)
		}
		test(t, e, c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("in process", func(t *testing.T) {
		e := &fakeEngine{}
		o, err := newOptions(nil)
		if err != nil {
			t.Fatal(err)
		}
		o.transport = handlerTransport{fakeHandler(t, e, cfg)}
		test(t, e, newClient("http://in-process", o))
	})
}

func (e *fakeEngine) Explain(_ context.Context, req selection.Request, entity []httpapi.TextField) (*api.Explanation, error) {
	return &api.Explanation{Revision: req.Service, Features: []api.ExplainedFeature{{Name: fmt.Sprint(req.Features, entity), Value: []byte("1")}}}, nil
}
