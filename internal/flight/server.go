package flight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// Engine builds datasets; internal/app implements it. It is safe for concurrent use.
type Engine interface {
	// Build joins a spine, an Arrow stream in a file, and writes the dataset as an Arrow stream to a file.
	Build(ctx context.Context, c Command, spine, out string) (api.Dataset, error)
	// Rebuild writes a dataset, by ID or name, as an Arrow stream to a file.
	Rebuild(ctx context.Context, id, out string) (api.Dataset, error)
	// Datasets lists the datasets, newest first.
	Datasets(ctx context.Context) ([]api.Dataset, error)
	// Dataset describes one, by ID or name, with its manifest.
	Dataset(ctx context.Context, id string) (api.Dataset, error)
	// Blame tells whose fault an error is, and what to tell the client.
	Blame(err error) (Fault, string)
}

// Fault says whose an error is.
type Fault uint8

// The faults. Internal errors are logged, and not shown to clients.
const (
	Internal Fault = iota
	BadRequest
	NotFound
	Unavailable
)

// Command asks for a dataset.
type Command struct {
	Service   string   `json:"service,omitempty"`
	Features  []string `json:"features,omitempty"`
	Timestamp string   `json:"timestamp,omitempty"` // the spine's column of the instant; "" for event_timestamp
	KnownAt   string   `json:"known_at,omitempty"`  // RFC 3339; "" hides nothing
	Name      string   `json:"name,omitempty"`
	FullNames bool     `json:"full_names,omitempty"`
	Pin       bool     `json:"pin,omitempty"`
}

// Known is KnownAt in microseconds; nil for none.
func (c Command) Known() (*int64, error) {
	if c.KnownAt == "" {
		return nil, nil
	}
	at, err := feature.ParseTimestamp(c.KnownAt)
	if err != nil {
		return nil, fmt.Errorf("known_at: %w", err)
	}
	return &at, nil
}

// maxMessage bounds a message: a batch of rows.
const maxMessage = 256 << 20

// Server serves datasets over Arrow Flight.
type Server struct {
	flight.BaseFlightServer
	engine Engine
	log    *slog.Logger
	grpc   *grpc.Server
	served chan struct{}
}

// Options says where and what to serve.
type Options struct {
	Listen string // host:port; port 0 picks a free one
	Engine Engine
	Log    *slog.Logger
	// APIKeys, where there are any, are the keys of which a call must carry one.
	APIKeys []string
}

// Start listens and serves until Stop. It returns the address that it listens on.
func Start(ctx context.Context, o Options) (*Server, net.Addr, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("listen for Arrow Flight on %s: %w", o.Listen, err)
	}
	s := &Server{engine: o.Engine, log: o.Log, served: make(chan struct{})}
	s.grpc = grpc.NewServer(append(newKeys(o.APIKeys).options(), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))...)
	flight.RegisterFlightServiceServer(s.grpc, s)
	go func() {
		defer close(s.served)
		if err := s.grpc.Serve(l); err != nil {
			s.log.Error("Arrow Flight is no longer served", "error", err)
		}
	}()
	return s, l.Addr(), nil
}

// Stop lets the calls in flight end, until ctx does, and stops. It may be called more than once.
func (s *Server) Stop(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
	<-s.served
}

// told is an error as gRPC has it. What is nobody's fault but ours is logged.
func (s *Server) told(ctx context.Context, call string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	fault, text := s.engine.Blame(err)
	switch fault {
	case BadRequest:
		return status.Error(codes.InvalidArgument, text)
	case NotFound:
		return status.Error(codes.NotFound, text)
	case Unavailable:
		return status.Error(codes.Unavailable, text)
	}
	s.log.ErrorContext(ctx, "an Arrow Flight call failed", "call", call, "error", err)
	return status.Error(codes.Internal, "an internal error; the server's log says more")
}

// scratch is a folder for one call; remove removes it.
func (s *Server) scratch(ctx context.Context) (dir string, remove func(), err error) {
	if dir, err = os.MkdirTemp("", "forebay-flight-"); err != nil {
		return "", nil, err
	}
	return dir, func() {
		if err := os.RemoveAll(dir); err != nil {
			s.log.ErrorContext(ctx, "a dataset's temporary files were not removed", "dir", dir, "error", err)
		}
	}, nil
}

// info describes a dataset.
func info(d api.Dataset, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	about, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if desc == nil {
		desc = &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{d.ID}}
	}
	return &flight.FlightInfo{
		FlightDescriptor: desc, TotalRecords: d.Rows, TotalBytes: -1, AppMetadata: about,
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: []byte(d.ID)}}},
	}, nil
}

// ListFlights implements flight.FlightServer.
func (s *Server) ListFlights(_ *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	ds, err := s.engine.Datasets(stream.Context())
	for i := 0; err == nil && i < len(ds); i++ {
		var fi *flight.FlightInfo
		if fi, err = info(ds[i], nil); err == nil {
			err = stream.Send(fi)
		}
	}
	return s.told(stream.Context(), "ListFlights", err)
}

// GetFlightInfo implements flight.FlightServer.
func (s *Server) GetFlightInfo(ctx context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	if len(desc.GetPath()) != 1 {
		return nil, status.Error(codes.InvalidArgument, "the descriptor is no path of one dataset's ID or name")
	}
	d, err := s.engine.Dataset(ctx, desc.GetPath()[0])
	if err != nil {
		return nil, s.told(ctx, "GetFlightInfo", err)
	}
	fi, err := info(d, desc)
	return fi, s.told(ctx, "GetFlightInfo", err)
}

// DoGet implements flight.FlightServer.
func (s *Server) DoGet(t *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	ctx := stream.Context()
	return s.told(ctx, "DoGet", s.get(ctx, string(t.GetTicket()), stream))
}

func (s *Server) get(ctx context.Context, id string, stream flight.DataStreamWriter) error {
	dir, remove, err := s.scratch(ctx)
	if err != nil {
		return err
	}
	defer remove()
	out := filepath.Join(dir, "dataset.arrows")
	d, err := s.engine.Rebuild(ctx, id, out)
	if err != nil {
		return err
	}
	return send(d, out, stream)
}

// send sends a file's records, after a message with the dataset's description.
func send(d api.Dataset, path string, stream flight.DataStreamWriter) (err error) {
	about, err := json.Marshal(d)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := ipc.NewReader(f)
	if err != nil {
		return fmt.Errorf("read the dataset: %w", err)
	}
	defer r.Release()
	w := flight.NewRecordWriter(stream, ipc.WithSchema(r.Schema()))
	first := true
	for r.Next() {
		rec := r.RecordBatch()
		// A record's buffers are those that were read, and gRPC copies them once.
		if first {
			err, first = w.WriteWithAppMetadata(rec, about), false
		} else {
			err = w.Write(rec)
		}
		if err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return errors.Join(r.Err(), w.Close())
}

// DoPut implements flight.FlightServer.
func (s *Server) DoPut(stream flight.FlightService_DoPutServer) error {
	ctx := stream.Context()
	err := s.put(ctx, stream, func(d api.Dataset, _ string) error {
		about, err := json.Marshal(d)
		if err != nil {
			return err
		}
		return stream.Send(&flight.PutResult{AppMetadata: about})
	})
	return s.told(ctx, "DoPut", err)
}

// DoExchange implements flight.FlightServer.
func (s *Server) DoExchange(stream flight.FlightService_DoExchangeServer) error {
	ctx := stream.Context()
	err := s.put(ctx, stream, func(d api.Dataset, out string) error { return send(d, out, stream) })
	return s.told(ctx, "DoExchange", err)
}

// put takes a spine, builds the dataset and hands it on.
func (s *Server) put(ctx context.Context, in flight.DataStreamReader, then func(d api.Dataset, out string) error) error {
	r, err := flight.NewRecordReader(in, ipc.WithAllocator(memory.DefaultAllocator))
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "the spine is no Arrow stream: %v", err)
	}
	defer r.Release()
	cmd, err := command(r.LatestFlightDescriptor())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	dir, remove, err := s.scratch(ctx)
	if err != nil {
		return err
	}
	defer remove()
	spine, out := filepath.Join(dir, "spine.arrows"), filepath.Join(dir, "dataset.arrows")
	if err := keep(spine, r.Schema(), r); err != nil {
		return err
	}
	d, err := s.engine.Build(ctx, cmd, spine, out)
	if err != nil {
		return err
	}
	return then(d, out)
}

// keep writes what comes to a file.
func keep(path string, schema *arrow.Schema, r *flight.Reader) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := ipc.NewWriter(f, ipc.WithSchema(schema))
	for r.Next() {
		if err := w.Write(r.RecordBatch()); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(status.Errorf(codes.InvalidArgument, "the spine ended badly: %v", err), w.Close())
	}
	return w.Close()
}

// command reads what is asked for.
func command(d *flight.FlightDescriptor) (c Command, err error) {
	if len(d.GetCmd()) == 0 {
		return c, errors.New(`the first message has no command: want JSON such as {"service":"delay_model"}`)
	}
	dec := json.NewDecoder(strings.NewReader(string(d.GetCmd())))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, fmt.Errorf("the command is not what it should be: %w", err)
	}
	if (c.Service == "") == (len(c.Features) == 0) {
		return c, errors.New("the command names a service and features, or neither: one of them, please")
	}
	return c, nil
}

var _ flight.FlightServer = (*Server)(nil)
