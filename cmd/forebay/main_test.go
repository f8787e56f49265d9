package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"forebay": main})
}

// tinyDir is absolute, as scripts change the current folder.
var tinyDir = func() string {
	dir, err := filepath.Abs("testdata/tiny")
	if err != nil {
		panic(err)
	}
	return dir
}()

// TestScripts runs the scripts of testdata/script, one per behaviour, against
// the command as a process of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: false,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("USER", "tester")
			e.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			e.Setenv("GIT_CEILING_DIRECTORIES", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport": freeport,
			"http":     httpRequest,
			"ready":    ready,
			"waitfile": waitFile,
			"lines":    lines,
			"exits":    exits,
			"tiny":     tiny,
			"edit":     edit,
		},
	})
}

// freeport NAME… sets each environment variable to a port that is free on 127.0.0.1.
func freeport(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer func() { _ = l.Close() }()
		_, port, err := net.SplitHostPort(l.Addr().String())
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// http [POST] URL [BODY] sends a request and prints the answer's status and body.
// With ! the status must be 400 or more, else below.
func httpRequest(ts *testscript.TestScript, neg bool, args []string) {
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if args[0] == http.MethodPost {
		method, args = args[0], args[1:]
		body = strings.NewReader(args[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, args[0], body)
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d\n%s\n", res.StatusCode, text)
	if (res.StatusCode >= 400) != neg {
		ts.Fatalf("%s %s: %d %s", method, args[0], res.StatusCode, text)
	}
}

// eventually tries until ok, at most half a minute.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("timed out: %s", what)
		}
	}
}

// ready URL [TEXT] waits until a server answers URL with 200, and with TEXT in its body.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	client := &http.Client{Timeout: 5 * time.Second}
	eventually(ts, strings.Join(args, " "), func() bool {
		res, err := client.Get(args[0])
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		return err == nil && res.StatusCode == http.StatusOK && (len(args) < 2 || bytes.Contains(text, []byte(args[1])))
	})
}

// waitfile PATH waits until a file is there.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	eventually(ts, "file "+path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// lines N FILE checks the number of lines of a file (stdout and stderr too).
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if got := fmt.Sprint(strings.Count(ts.ReadFile(args[1]), "\n")); (got == args[0]) == neg {
		ts.Fatalf("%s has %s lines, not %s", args[1], got, args[0])
	}
}

// exits CODE COMMAND… runs a command and checks its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// tiny puts the small repository of testdata/tiny into the current folder.
func tiny(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(os.CopyFS(ts.MkAbs("."), os.DirFS(tinyDir)))
}

// edit FILE OLD NEW replaces a text in a file, which must be there.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o644))
}
