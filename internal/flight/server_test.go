package flight

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/forebay/forebay/internal/api"
)

// echo is an engine whose datasets are their spines.
type echo struct {
	dir string
	cmd Command
}

var errMissing = errors.New("there is no such dataset")

func (e *echo) Build(_ context.Context, c Command, spine, out string) (api.Dataset, error) {
	e.cmd = c
	b, err := os.ReadFile(spine)
	if err != nil {
		return api.Dataset{}, err
	}
	return api.Dataset{ID: "sha256:e", Rows: 3}, errors.Join(os.WriteFile(out, b, 0o600), os.WriteFile(filepath.Join(e.dir, "e"), b, 0o600))
}

func (e *echo) Rebuild(_ context.Context, id, out string) (api.Dataset, error) {
	switch id {
	case "sha256:e":
		b, err := os.ReadFile(filepath.Join(e.dir, "e"))
		return api.Dataset{ID: id, Rows: 3}, errors.Join(err, os.WriteFile(out, b, 0o600))
	case "broken":
		return api.Dataset{}, errors.New("a secret of the disk")
	}
	return api.Dataset{}, errMissing
}

func (e *echo) Datasets(context.Context) ([]api.Dataset, error) {
	return []api.Dataset{{ID: "sha256:e", Rows: 3}}, nil
}

func (e *echo) Dataset(_ context.Context, id string) (api.Dataset, error) {
	if id != "sha256:e" {
		return api.Dataset{}, errMissing
	}
	return api.Dataset{ID: id, Rows: 3}, nil
}

func (e *echo) Blame(err error) (Fault, string) {
	if errors.Is(err, errMissing) {
		return NotFound, err.Error()
	}
	return Internal, ""
}

func client(t *testing.T, apiKeys ...string) (flight.Client, *echo, string) {
	t.Helper()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	e := &echo{dir: t.TempDir()}
	s, at, err := Start(t.Context(), Options{Listen: "127.0.0.1:0", Engine: e, Log: slog.New(slog.DiscardHandler), APIKeys: apiKeys})
	if err != nil {
		t.Fatal(err)
	}
	c, err := flight.NewClientWithMiddleware(at.String(), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			s.Stop(context.Background())
		}
		if left, _ := os.ReadDir(temp); len(left) > 0 {
			t.Errorf("temporary files were left: %v", left)
		}
	})
	return c, e, temp
}

func record() arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil))
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{1, 2, 3}, nil)
	return b.NewRecordBatch()
}

func get(ctx context.Context, c flight.Client, id string) (int64, error) {
	stream, err := c.DoGet(ctx, &flight.Ticket{Ticket: []byte(id)})
	if err != nil {
		return 0, err
	}
	r, err := flight.NewRecordReader(stream)
	if err != nil {
		return 0, err
	}
	defer r.Release()
	n := int64(0)
	for r.Next() {
		n += r.RecordBatch().NumRows()
	}
	return n, r.Err()
}

func put(ctx context.Context, c flight.Client, cmd string) (string, error) {
	stream, err := c.DoPut(ctx)
	if err != nil {
		return "", err
	}
	w := flight.NewRecordWriter(stream, ipc.WithSchema(record().Schema()))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(cmd)})
	_ = w.Write(record()) // what was refused is told by Recv
	_ = w.Close()
	_ = stream.CloseSend()
	res, err := stream.Recv()
	return string(res.GetAppMetadata()), err
}

func TestFlight(t *testing.T) {
	c, e, _ := client(t)
	got, err := put(t.Context(), c, `{"service":"s","known_at":"2001-01-01T00:00:00Z","pin":true}`)
	if err != nil || !strings.Contains(got, `"id":"sha256:e"`) || !e.cmd.Pin || e.cmd.Service != "s" {
		t.Errorf("%s, %v, %+v", got, err, e.cmd)
	}
	if n, err := get(t.Context(), c, "sha256:e"); n != 3 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	for cmd, want := range map[string]string{"": "no command", "{": "not what it should be", `{"servce":"s"}`: "servce", `{}`: "one of them", `{"service":"s","features":["f"]}`: "one of them"} {
		if _, err := put(t.Context(), c, cmd); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", cmd, err)
		}
	}
	if _, err := get(t.Context(), c, "nope"); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := get(t.Context(), c, "broken"); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	if _, err := c.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte("x")}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestKeys(t *testing.T) {
	c, _, _ := client(t, "first-key", "second-key")
	for _, tc := range []struct {
		header, value string
		want          codes.Code
	}{{"x", "y", codes.Unauthenticated}, {"authorization", "Bearer wrong", codes.Unauthenticated}, {"authorization", "Bearer second-key", codes.NotFound}, {"x-api-key", "first-key", codes.NotFound}} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), tc.header, tc.value)
		if _, err := get(ctx, c, "nope"); status.Code(err) != tc.want {
			t.Errorf("%s: %s: got %v", tc.header, tc.value, err)
		}
		if _, err := c.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"nope"}}); status.Code(err) != tc.want {
			t.Errorf("%s: %s: got %v", tc.header, tc.value, err)
		}
	}
}
