package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/internal/bench"
)

func (c *cli) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine, beside what the raw store gives in the same run",
		Long: `Measures on this machine. The data is synthetic, in a folder that is removed afterwards, unless
the command is told to use this repository's. Compare by the ratios of one run: the
figures themselves differ from machine to machine and from day to day.`,
	}
	return subcommands(cmd, c.benchLookupCommand(), c.benchMaterializeCommand(), c.benchPITCommand(), c.benchStreamCommand())
}

// benchMachine says where figures were made.
type benchMachine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

func thisMachine() benchMachine {
	return benchMachine{runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()}
}

// benchStore is where the values of a synthetic repository go.
type benchStore struct {
	embedded bool
	redis    string // host:port; "" starts a redis-server for the run
}

func (s *benchStore) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.redis, "redis", "", "Redis to use, host:port (default: a redis-server started for the run)")
	cmd.Flags().BoolVar(&s.embedded, "embedded", false, "use the embedded online store instead of Redis")
}

// benchRepository is a synthetic repository with its store, for one run.
type benchRepository struct {
	dir     string
	project string
	redis   *bench.Redis // nil with the embedded store
	stop    func() error
}

// synthesize makes a synthetic repository, applied; s.Online is filled in. The caller calls stop.
func (c *cli) synthesize(ctx context.Context, store benchStore, s bench.Synthetic) (_ *benchRepository, err error) {
	r := &benchRepository{}
	if r.dir, err = os.MkdirTemp("", "forebay-bench-"); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	r.project = "bench_" + strings.ToLower(crand.Text()[:8]) // nobody else's
	s.Project = r.project
	stopRedis := func() error { return nil }
	r.stop = func() error { return errors.Join(stopRedis(), os.RemoveAll(r.dir)) }
	defer func() {
		if err != nil {
			err = errors.Join(err, r.stop())
		}
	}()
	s.Online = "{store: embedded, path: ./.forebay/online}"
	if !store.embedded {
		addr := store.redis
		if addr != "" {
			stopRedis = func() error {
				return bench.Redis{Addr: addr}.Remove(context.WithoutCancel(ctx), app.RedisProject(r.project))
			}
		} else {
			if addr, stopRedis, err = startRedis(ctx, r.dir); err != nil {
				return nil, err
			}
		}
		r.redis = &bench.Redis{Addr: addr}
		s.Online = fmt.Sprintf("{store: redis, addrs: [%q], mode: single}", addr)
	}
	if err := s.Write(r.dir); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, r.with(ctx, c, func(a *app.App) error {
		p, err := a.Plan(ctx)
		if err != nil {
			return err
		}
		_, err = a.Apply(ctx, p)
		return err
	})
}

// with works on the repository in this process.
func (r *benchRepository) with(ctx context.Context, c *cli, run func(*app.App) error) (err error) {
	a, err := app.Open(ctx, app.Options{Dir: r.dir, Command: "bench", Log: c.logger(slog.LevelError)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return run(a)
}

// fill ingests the sources of some widths and materializes their views.
func (r *benchRepository) fill(ctx context.Context, c *cli, widths []int) (done []app.Materialized, err error) {
	err = r.with(ctx, c, func(a *app.App) error {
		for _, w := range widths {
			if _, err := a.Ingest(ctx, app.IngestOptions{Source: bench.Source(w)}); err != nil {
				return err
			}
		}
		done, err = a.Materialize(ctx, app.MaterializeOptions{})
		return err
	})
	return done, err
}

// startRedis starts a redis-server without persistence.
func startRedis(ctx context.Context, dir string) (addr string, stop func() error, err error) {
	stop = func() error { return nil }
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", stop, &app.Error{Err: errors.New("redis-server is missing"), Hint: "Install it, name a Redis with --redis host:port, or use --embedded."}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", stop, fmt.Errorf("bench: %w", err)
	}
	addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	if err := l.Close(); err != nil {
		return "", stop, fmt.Errorf("bench: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no") //nolint:gosec // the user's own redis-server
	if err := cmd.Start(); err != nil {
		return "", stop, fmt.Errorf("bench: start redis-server: %w", err)
	}
	stop = func() error {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // "signal: killed"
		return nil
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return addr, stop, conn.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return "", func() error { return nil }, errors.Join(fmt.Errorf("bench: redis-server does not answer: %w", err), stop())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// benchServer is `forebay serve` in a process of its own, so that its work and
// the load's are not mixed.
type benchServer struct {
	cmd  *exec.Cmd
	addr string
	log  bytes.Buffer
}

func (c *cli) startServer(ctx context.Context, args ...string) (*benchServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	s := &benchServer{cmd: exec.CommandContext(ctx, self, append(args, "--json", "serve", "--listen", "127.0.0.1:0")...)} //nolint:gosec // this program
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 15 * time.Second
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: start a server: %w", err)
	}
	var ready struct {
		URL string `json:"url"`
	}
	if err := json.NewDecoder(out).Decode(&ready); err != nil || ready.URL == "" {
		s.stop()
		return nil, fmt.Errorf("bench: the server did not start: %s", strings.TrimSpace(s.log.String()))
	}
	s.addr = strings.TrimPrefix(ready.URL, "http://")
	return s, nil
}

func (s *benchServer) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = s.cmd.Wait()
}

// cpu is the processor time that the server has taken so far; 0 where the system does not tell.
func (s *benchServer) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// proc(5): after the name in parentheses, the 12th and 13th field are user and system time in 1/100 s.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// connect makes n clients. The caller closes them.
func connect(n int, dial func() (bench.Client, error)) (clients []bench.Client, closeAll func() error, err error) {
	closeAll = func() error {
		var errs []error
		for _, c := range clients {
			errs = append(errs, c.Close())
		}
		return errors.Join(errs...)
	}
	for range n {
		one, err := dial()
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		clients = append(clients, one)
	}
	return clients, closeAll, nil
}
