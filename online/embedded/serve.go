package embedded

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/forebay/forebay/online"
)

// maxSocketPath is the length of a socket's path that every system takes
// (sun_path has 104 bytes on the BSDs and macOS, 108 on Linux, one for the end).
const maxSocketPath = 100

// Serve lets other processes of the user work through this store (see Dial): it
// answers on a socket in the folder until ctx is done or the store is closed,
// lets calls under way finish, and returns nil. It may be called once at a time.
func (s *Store) Serve(ctx context.Context) error {
	fail := func(err error) error { return fmt.Errorf("serve online store %s: %w", s.o.Dir, err) }
	if err := s.beginServe(); err != nil {
		return fail(err)
	}
	defer s.endServe()
	l, remove, err := listen(filepath.Join(s.o.Dir, "online.sock"))
	if err != nil {
		return fail(err)
	}
	defer remove()
	token := rand.Text()
	server := &http.Server{
		Handler:           &handler{store: s, token: token},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
	}
	if err := s.owner.serve(l.Addr().Network()+":"+l.Addr().String(), token); err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err = <-served:
	case <-ctx.Done():
	case <-s.closing:
	}
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if server.Shutdown(stop) != nil {
		_ = server.Close() // calls that would not end in time
	}
	if err == nil {
		err = <-served
	}
	if err = errors.Join(ignore(err, http.ErrServerClosed), s.owner.serve("", "")); err != nil {
		return fail(err)
	}
	return nil
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

// beginServe registers a Serve, which Close then waits for.
func (s *Store) beginServe() error {
	s.serveMu.Lock()
	defer s.serveMu.Unlock()
	select {
	case <-s.closing:
		return online.ErrClosed
	default:
	}
	if s.serving != nil {
		return errors.New("it is served already")
	}
	s.serving = make(chan struct{})
	return nil
}

func (s *Store) endServe() {
	s.serveMu.Lock()
	defer s.serveMu.Unlock()
	close(s.serving)
	s.serving = nil
}

// stopServe ends a Serve and waits for it.
func (s *Store) stopServe() {
	s.serveMu.Lock()
	close(s.closing)
	serving := s.serving
	s.serveMu.Unlock()
	if serving != nil {
		<-serving
	}
}

// listen opens a socket at path; where that is too long, in a folder of its own
// among the temporary files; and where there are no such sockets, on a port of this machine.
func listen(path string) (l net.Listener, remove func(), err error) {
	remove = func() {}
	if len(path) > maxSocketPath {
		var dir string
		if dir, err = os.MkdirTemp("", "forebay-"); err == nil {
			path, remove = filepath.Join(dir, "online.sock"), func() { _ = os.RemoveAll(dir) }
		}
	}
	if len(path) <= maxSocketPath {
		// The folder's lock is held, so what is there is of a process that is gone.
		if err = ignore(os.Remove(path), os.ErrNotExist); err == nil {
			l, err = net.Listen("unix", path)
		}
		if err == nil {
			if err = os.Chmod(path, 0o600); err == nil {
				return l, remove, nil
			}
			err = errors.Join(err, l.Close())
		}
	}
	remove()
	l, tcpErr := net.Listen("tcp", "127.0.0.1:0")
	if tcpErr != nil {
		return nil, nil, errors.Join(err, tcpErr)
	}
	return l, func() {}, nil
}

// handler answers the calls of other processes.
type handler struct {
	store *Store
	token string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(given), []byte(h.token)) != 1 {
		http.Error(w, "the token of owner.json is missing or wrong", http.StatusUnauthorized)
		return
	}
	answer, err := h.call(w, r)
	if err != nil {
		w.Header().Set(errorHeader, codeOf(err))
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
	_, _ = w.Write(answer) // a caller that is gone does not miss it
}

func (h *handler) call(w http.ResponseWriter, r *http.Request) (answer []byte, err error) {
	if p := r.Header.Get(projectHeader); p != h.store.o.Project {
		return nil, fmt.Errorf("%w: it keeps the records of project %q, not of %q", errProject, h.store.o.Project, p)
	}
	name, ok := strings.CutPrefix(r.URL.Path, wirePath)
	if !ok || r.Method != http.MethodPost {
		return nil, fmt.Errorf("%w: %s %s: this process speaks version %s of the protocol; use the same release of Forebay", errWire, r.Method, r.URL.Path, strings.Trim(wirePath, "/"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errWire, err)
	}
	return dispatch(r.Context(), h.store, name, body)
}

// dispatch decodes a request, does it, and encodes the answer.
func dispatch(ctx context.Context, store online.Store, name string, body []byte) (answer []byte, err error) {
	m := &message{rest: body}
	switch name {
	case "get":
		keys := make([]online.Key, m.count())
		for i := range keys {
			keys[i] = m.key()
		}
		if err := m.end(); err != nil {
			return nil, err
		}
		dst := make([][]byte, len(keys))
		if err := store.Get(ctx, keys, dst); err != nil {
			return nil, err
		}
		return appendRecords(dst), nil
	case "write":
		mode := online.WriteMode(m.int())
		records := make([]online.Record, m.count())
		for i := range records {
			records[i] = online.Record{Key: m.key(), Value: m.bytes(), TTL: m.ttl()}
		}
		if mode > online.Always {
			m.fail()
		}
		if err := m.end(); err != nil {
			return nil, err
		}
		res, err := store.Write(ctx, records, mode)
		return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(res.Applied)), uint64(res.Stale)), err
	case "setresumes":
		points := make([]online.Resume, m.count())
		for i := range points {
			points[i].View, points[i].Generation = m.generation()
			points[i].Input, points[i].Position = m.text(), m.text()
		}
		if err := m.end(); err != nil {
			return nil, err
		}
		return nil, store.SetResumes(ctx, points)
	case "live":
		if err := m.end(); err != nil {
			return nil, err
		}
		live, err := store.Live(ctx)
		answer = binary.AppendUvarint(nil, uint64(len(live)))
		for view, generation := range live {
			answer = appendView(answer, view, generation)
		}
		return answer, err
	case "ping":
		if err := m.end(); err != nil {
			return nil, err
		}
		return nil, store.Ping(ctx)
	}
	view, generation := m.generation()
	if err := m.end(); err != nil {
		return nil, err
	}
	switch name {
	case "resumes":
		points, err := store.Resumes(ctx, view, generation)
		answer = binary.AppendUvarint(nil, uint64(len(points)))
		for _, p := range points {
			answer = appendText(appendText(answer, p.Input), p.Position)
		}
		return answer, err
	case "setlive":
		return nil, store.SetLive(ctx, view, generation)
	case "drop":
		return nil, store.Drop(ctx, view, generation)
	case "usage":
		records, size, err := store.Usage(ctx, view, generation)
		return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(records)), uint64(size)), err
	}
	return nil, fmt.Errorf("%w: no call %q", errWire, name)
}

func appendRecords(records [][]byte) []byte {
	size := 0
	for _, r := range records {
		size += len(r) + 3
	}
	answer := make([]byte, 0, size)
	for _, r := range records {
		if r == nil {
			answer = append(answer, 0)
			continue
		}
		answer = append(binary.AppendUvarint(answer, uint64(len(r))+1), r...)
	}
	return answer
}
