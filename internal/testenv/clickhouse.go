//go:build unix

package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ClickHouseEnv names the variable that makes [ClickHouse] use a server that runs
// already, by its URL without a database: http://127.0.0.1:8123 or clickhouse://127.0.0.1:9000.
const ClickHouseEnv = "FOREBAY_TEST_CLICKHOUSE"

// ClickHouseServer is a ClickHouse on 127.0.0.1: the engine as a library, behind its HTTP
// interface (internal/testenv/chserve).
type ClickHouseServer struct {
	base   string
	reaper *reaper // kept, for the end of its pipe is closed when nobody does
}

var sharedClickHouse struct {
	once   sync.Once
	server *ClickHouseServer
	err    error
}

// ClickHouse is a server that every test of the process shares, or the one that
// FOREBAY_TEST_CLICKHOUSE names. Tests must not share tables. Take goleak.IgnoreCurrent after it.
func ClickHouse(t testing.TB) *ClickHouseServer {
	t.Helper()
	sharedClickHouse.once.Do(func() {
		if base := os.Getenv(ClickHouseEnv); base != "" {
			sharedClickHouse.server = &ClickHouseServer{base: base}
			return
		}
		sharedClickHouse.server, sharedClickHouse.err = startClickHouse()
	})
	var lacks *lacking
	if err := sharedClickHouse.err; errors.As(err, &lacks) {
		missing(t, lacks.what, lacks.install)
	} else if err != nil {
		t.Fatal(err)
	}
	return sharedClickHouse.server
}

// URL is the URL of a database there.
func (s *ClickHouseServer) URL(database string) string { return s.base + "/" + database }

// Addr is host:port.
func (s *ClickHouseServer) Addr() string {
	_, addr, _ := strings.Cut(s.base, "://")
	return addr
}

func startClickHouse() (*ClickHouseServer, error) {
	_, file, _, _ := runtime.Caller(0)
	here := filepath.Dir(file)
	var stderr strings.Builder
	find := exec.Command(filepath.Join(here, "clickhouse-lib.sh"))
	find.Stderr = &stderr
	lib, err := find.Output()
	if err != nil {
		return nil, &lacking{"ClickHouse's library", fmt.Sprintf("make test-setup (%s)", strings.TrimSpace(stderr.String()))}
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		return nil, &lacking{"a C compiler (for the ClickHouse engine)", "apt-get install gcc libc6-dev"}
	}
	dir, err := os.MkdirTemp("", "forebay-clickhouse-")
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	s := &ClickHouseServer{}
	if s.reaper, err = startReaper(dir); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	if err := s.start(here, dir, strings.TrimSpace(string(lib))); err != nil {
		_ = s.reaper.pipe.Close()
		return nil, err
	}
	return s, nil
}

func (s *ClickHouseServer) start(here, dir, lib string) error {
	program := filepath.Join(dir, "chserve")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(here, "chserve")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("clickhouse: build %s: %w: %s", build.Dir, err, out)
	}
	run := filepath.Join(dir, "1") // where the reaper looks for what to end
	if err := os.Mkdir(run, 0o700); err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	ports, err := freePorts(1)
	if err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	s.base = "http://127.0.0.1:" + strconv.Itoa(ports[0])
	logs, err := os.Create(filepath.Join(run, "log"))
	if err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	defer logs.Close()
	cmd := exec.Command(program, "-lib", lib, "-path", filepath.Join(run, "data"), "-addr", s.Addr(), "-conns", "8")
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("clickhouse: start: %w", err)
	}
	if err := os.WriteFile(filepath.Join(run, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	var ended error
	err = until(60*time.Second, func(ctx context.Context) error {
		select {
		case err := <-gone:
			ended = fmt.Errorf("it has ended: %w", err)
		default:
		}
		if ended != nil {
			return nil // there is nothing to wait for
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/ping", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			err = res.Body.Close()
		}
		return err
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err = errors.Join(err, ended); err != nil {
		log, _ := os.ReadFile(filepath.Join(run, "log"))
		return fmt.Errorf("clickhouse: the server on %s is not up: %w; the end of its log:\n%s", s.Addr(), err, log[max(0, len(log)-2000):])
	}
	return nil
}
