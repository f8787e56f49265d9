package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/onlinetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("FOREBAY_TEST_OWNER"); dir != "" {
		ownFolder(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve serves a store until stop is called or the test ends.
func serve(t testing.TB, s *Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	for {
		info, err := readOwner(s.o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Socket != "" {
			return stop
		}
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
}

func TestConformance(t *testing.T) {
	for name, noSync := range map[string]bool{"Sync": false, "NoSync": true} {
		t.Run(name, func(t *testing.T) {
			onlinetest.Run(t, onlinetest.Backend{
				Open: func(t testing.TB, project string) online.Store {
					return open(t, Options{Dir: t.TempDir(), Project: project, NoSync: noSync, MemTableBytes: 1 << 20})
				},
			})
		})
	}
}

func TestConformanceRemote(t *testing.T) {
	root := t.TempDir()
	owners := map[string]*Store{}
	stops := map[string]func(){}
	onlinetest.Run(t, onlinetest.Backend{
		Open: func(tb testing.TB, project string) online.Store {
			dir := filepath.Join(root, project)
			if owners[project] == nil {
				owners[project] = open(t, Options{Dir: dir, Project: project, Command: "the test"})
				stops[project] = serve(t, owners[project])
			}
			c, err := Dial(tb.Context(), dir, project)
			if err != nil {
				tb.Fatal(err)
			}
			return c
		},
		Shared: true,
		Break: func(tb testing.TB) func() {
			for _, stop := range stops {
				stop()
			}
			return func() {
				for project, s := range owners {
					stops[project] = serve(t, s)
				}
			}
		},
		Address: root,
	})
}

// ownFolder is another process, which holds a folder until it is killed.
func ownFolder(dir string) {
	s, err := Open(Options{Dir: dir, Project: "p", Command: "forebay dev"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if os.Getenv("FOREBAY_TEST_SERVE") != "" {
		go func() { fmt.Println(s.Serve(context.Background())) }()
		for info := (ownerInfo{}); info.Socket == ""; info, _ = readOwner(dir) {
		}
	}
	fmt.Println("ready")
	select {}
}

// startOwner starts a process that holds a folder.
func startOwner(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "FOREBAY_TEST_OWNER="+dir), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the owner: %q, %v", line, err)
	}
	return cmd
}

func TestHeld(t *testing.T) {
	dir := t.TempDir()
	cmd := startOwner(t, dir)
	_, err := Open(Options{Dir: dir, Project: "p"})
	var held *HeldError
	if !errors.As(err, &held) || *held != (HeldError{Dir: dir, PID: cmd.Process.Pid, Command: "forebay dev"}) {
		t.Fatalf("Open of a folder that is held: %v", err)
	}
	if want := fmt.Sprintf("online store %s is held by process %d (forebay dev): end it first", dir, cmd.Process.Pid); err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if _, err := Dial(t.Context(), dir, "p"); !errors.As(err, &held) {
		t.Errorf("Dial of an owner that does not serve: %v", err)
	}
	if _, err := OpenOrDial(t.Context(), Options{Dir: dir, Project: "p"}); !errors.As(err, &held) {
		t.Errorf("OpenOrDial of an owner that does not serve: %v", err)
	}
	// The lock dies with its process, however it ends.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := Dial(t.Context(), dir, "p"); err == nil {
		t.Error("Dial of an owner that is gone")
	}
	open(t, Options{Dir: dir, Project: "p"})
}

func TestOtherProcessServes(t *testing.T) {
	dir := t.TempDir()
	first := startOwner(t, dir, "FOREBAY_TEST_SERVE=1")
	c, err := OpenOrDial(t.Context(), Options{Dir: dir, Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetLive(t.Context(), "v", 3); err != nil {
		t.Fatal(err)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	if err := c.Ping(t.Context()); !errors.Is(err, online.ErrUnavailable) {
		t.Errorf("Ping of an owner that is gone: %v", err)
	}
	// Another owner, with another token: the client finds it.
	startOwner(t, dir, "FOREBAY_TEST_SERVE=1")
	if live, err := c.Live(t.Context()); err != nil || live["v"] != 3 {
		t.Errorf("Live through the next owner: %v, %v", live, err)
	}
	if _, err := Dial(t.Context(), dir, "q"); !errors.Is(err, errProject) || !strings.Contains(err.Error(), `"p", not of "q"`) {
		t.Errorf("Dial for another project: %v", err)
	}
}

func TestSocket(t *testing.T) {
	t.Run("Private", func(t *testing.T) {
		s := open(t, Options{Dir: t.TempDir(), Project: "p"})
		stop := serve(t, s)
		for _, name := range []string{"online.sock", "owner.json"} {
			fi, err := os.Stat(filepath.Join(s.o.Dir, name))
			if err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, fi.Mode(), err)
			}
		}
		if err := s.Serve(t.Context()); err == nil {
			t.Error("a second Serve")
		}
		stop()
		if info, err := readOwner(s.o.Dir); err != nil || info.Socket != "" || info.Token != "" {
			t.Errorf("owner.json after Serve: %+v, %v", info, err)
		}
	})
	t.Run("LongPath", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
		s := open(t, Options{Dir: dir, Project: "p"})
		stop := serve(t, s)
		c, err := Dial(t.Context(), dir, "p")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		socket, _ := strings.CutPrefix(c.owner.Load().Socket, "unix:")
		if len(socket) > maxSocketPath {
			t.Errorf("socket %s", socket)
		}
		stop()
		if _, err := os.Stat(filepath.Dir(socket)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its folder after Serve: %v", err)
		}
	})
	t.Run("TCP", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
		t.Setenv("TMPDIR", filepath.Join(t.TempDir(), strings.Repeat("none", 40))) // no place for a socket
		s := open(t, Options{Dir: dir, Project: "p"})
		serve(t, s)
		c, err := Dial(t.Context(), dir, "p")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if socket := c.owner.Load().Socket; !strings.HasPrefix(socket, "tcp:127.0.0.1:") {
			t.Errorf("socket %s", socket)
		}
	})
	t.Run("Token", func(t *testing.T) {
		s := open(t, Options{Dir: t.TempDir(), Project: "p"})
		serve(t, s)
		c, err := Dial(t.Context(), s.o.Dir, "p")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		forged := *c.owner.Load()
		forged.Token = "wrong"
		b := fmt.Sprintf(`{"version":1,"pid":1,"socket":%q,"token":"wrong"}`, forged.Socket)
		if err := os.WriteFile(ownerPath(s.o.Dir), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		c.owner.Store(&forged)
		if err := c.Ping(t.Context()); !errors.Is(err, online.ErrUnavailable) || !strings.Contains(err.Error(), "token") {
			t.Errorf("Ping with a wrong token: %v", err)
		}
	})
}

func TestFolder(t *testing.T) {
	for _, test := range []struct {
		name, file, content, want string
	}{
		{"newer", "FORMAT", "forebay online 2\nproject p\n", `its format is "forebay online 2", this program reads "forebay online 1"`},
		{"another project", "FORMAT", "forebay online 1\nproject q\n", `it keeps the records of project "q", not of "p"`},
		{"empty", "FORMAT", "", `its format is ""`},
		{"foreign", "pebble/CURRENT", "", "no file FORMAT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, test.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(test.content), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(Options{Dir: dir, Project: "p"})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v, want one with %q", err, test.want)
			}
			if _, err := os.Stat(ownerPath(dir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("owner.json after a failed Open: %v", err)
			}
		})
	}
	for _, o := range []Options{{}, {Dir: "d"}, {Dir: "d", Project: "p", CacheBytes: -1}, {Dir: "d", Project: "p", MemTableBytes: 5}} {
		if err := o.Validate(); err == nil {
			t.Errorf("%+v is valid", o)
		}
	}
	// What was there is there after it is opened again.
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, Project: "p"})
	if err := s.SetLive(t.Context(), "v", 7); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if live, err := open(t, Options{Dir: dir, Project: "p"}).Live(t.Context()); err != nil || live["v"] != 7 {
		t.Errorf("Live: %v, %v", live, err)
	}
}

func rec(entity string, order byte, payload string) online.Record {
	v := make([]byte, online.OrderStart+online.OrderLen)
	v[0], v[online.OrderLen] = 1, order
	return online.Record{Key: online.Key{View: "v", Generation: 1, Entity: []byte(entity)}, Value: append(v, payload...)}
}

// TestCrash takes the machine's power away after each of a number of writes
// and resume points: a resume point that is there afterwards has everything
// that was written before it, and without NoSync so has every write that returned.
func TestCrash(t *testing.T) {
	for name, noSync := range map[string]bool{"Sync": false, "NoSync": true} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			dir := t.TempDir()
			s := open(t, Options{Dir: dir, Project: "p", NoSync: noSync, fs: fs})
			var crashed []*vfs.MemFS
			for i := range 40 {
				if _, err := s.Write(t.Context(), []online.Record{rec(fmt.Sprint(i), 1, "")}, online.IfNewer); err != nil {
					t.Fatal(err)
				}
				if i%4 == 3 {
					point := online.Resume{View: "v", Generation: 1, Input: "i", Position: fmt.Sprint(i)}
					if err := s.SetResumes(t.Context(), []online.Resume{point}); err != nil {
						t.Fatal(err)
					}
				}
				crashed = append(crashed, fs.CrashClone(vfs.CrashCloneCfg{}))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for i, fs := range crashed {
				s := open(t, Options{Dir: dir, Project: "p", fs: fs})
				least := i
				if noSync {
					least = (i+1)/4*4 - 1
				}
				points, err := s.Resumes(t.Context(), "v", 1)
				if err != nil || (len(points) != 1 && i >= 3) || (i >= 3 && points[0].Position != fmt.Sprint((i+1)/4*4-1)) {
					t.Errorf("crash after %d: resume points %v, %v", i, points, err)
				}
				for e := range least + 1 {
					dst := make([][]byte, 1)
					if err := s.Get(t.Context(), []online.Key{rec(fmt.Sprint(e), 1, "").Key}, dst); err != nil || dst[0] == nil {
						t.Errorf("crash after %d: record %d: %v, %v", i, e, dst[0], err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// fullFS is a disk with little left.
type fullFS struct {
	vfs.FS
	mu   sync.Mutex
	free uint64
}

func (f *fullFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return vfs.DiskUsage{AvailBytes: f.free}, nil
}

func TestFullDisk(t *testing.T) {
	fs := &fullFS{FS: vfs.NewMem(), free: 1 << 30}
	s := open(t, Options{Dir: t.TempDir(), Project: "p", fs: fs})
	big := []online.Record{rec("e", 1, strings.Repeat("x", 20<<20))}
	if _, err := s.Write(t.Context(), big, online.IfNewer); err != nil {
		t.Fatal(err)
	}
	fs.mu.Lock()
	fs.free = 70 << 20
	fs.mu.Unlock()
	big[0].Value[online.OrderLen] = 2
	res, err := s.Write(t.Context(), big, online.IfNewer)
	if !errors.Is(err, online.ErrFull) || !errors.Is(err, online.ErrUnavailable) || res != (online.WriteResult{}) {
		t.Errorf("Write on a full disk: %+v, %v", res, err)
	}
	if err := s.Get(t.Context(), []online.Key{big[0].Key}, make([][]byte, 1)); err != nil {
		t.Errorf("Get on a full disk: %v", err)
	}
	fs.mu.Lock()
	fs.free = 1 << 30
	fs.mu.Unlock()
	if _, err := s.Write(t.Context(), big, online.IfNewer); err != nil {
		t.Errorf("Write after room was made: %v", err)
	}
}

// FuzzDispatch feeds requests to the serving end: an answer or an error, no
// panic and no memory beyond the request's own size.
func FuzzDispatch(f *testing.F) {
	k := online.Key{View: "v", Generation: 1, Entity: []byte("e")}
	for _, name := range []string{"get", "write", "resumes", "setresumes", "live", "setlive", "drop", "usage", "ping", "none"} {
		f.Add(name, appendView(nil, "v", 1))
		f.Add(name, appendKey([]byte{1}, k))
		f.Add(name, appendBytes(appendKey([]byte{0, 1}, k), rec("e", 1, "").Value))
		f.Add(name, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	}
	s, err := Open(Options{Dir: f.TempDir(), Project: "p", NoSync: true, fs: vfs.NewMem()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		if _, err := dispatch(t.Context(), s, name, body); err != nil && !errors.Is(err, errWire) && !errors.Is(err, online.ErrRecord) {
			t.Error(err)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, Options{Dir: b.TempDir(), Project: "p"})
			records := make([]online.Record, 10_000)
			for i := range records {
				records[i] = rec(fmt.Sprint(i), 1, strings.Repeat("x", 400))
			}
			if _, err := s.Write(b.Context(), records, online.IfNewer); err != nil {
				b.Fatal(err)
			}
			keys, dst := make([]online.Key, n), make([][]byte, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for j := range keys {
					keys[j] = records[(i*7919+j*104729)%len(records)].Key
				}
				if err := s.Get(b.Context(), keys, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir(), Project: "p"})
	records := make([]online.Record, 1000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j := range records {
			records[j] = rec(fmt.Sprint(i*1000+j), 1, strings.Repeat("x", 400))
		}
		if _, err := s.Write(b.Context(), records, online.IfNewer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "records/s")
}
