package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/embedded"
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

// feastDir has registries that Feast made.
var feastDir = filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(tinyDir))), "..", "internal", "feast", "testdata")

// TestScripts runs the scripts of testdata/script, one per behaviour, against
// the command as a process of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: setup, Cmds: commands(nil)})
}

// TestRealServices runs the scripts of testdata/real with a Redis in $REDIS, a Kafka in
// $KAFKA and the name of a topic that nobody else uses in $TOPIC.
func TestRealServices(t *testing.T) {
	redis, brokers := testenv.RedisServer(t), testenv.Kafka(t)
	cmds := commands(map[string]func(*testscript.TestScript, bool, []string){
		"topic": func(_ *testscript.TestScript, _ bool, args []string) { brokers.CreateTopic(t, args[0], 2) },
	})
	topic := brokers.Name(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/real", Cmds: cmds, Setup: func(e *testscript.Env) error {
		e.Setenv("REDIS", redis.Addr)
		e.Setenv("KAFKA", strings.Join(brokers.Addrs(), ","))
		e.Setenv("TOPIC", topic)
		return setup(e)
	}})
}

// setup makes a script's environment, of which nothing of this machine is part.
func setup(e *testscript.Env) error {
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("USER", "tester")
	e.Setenv("FEAST", feastDir)
	e.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	e.Setenv("GIT_CEILING_DIRECTORIES", e.WorkDir)
	return nil
}

// commands are what scripts may do beside testscript's own.
func commands(more map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){
		"freeport":   freeport,
		"http":       httpRequest,
		"ready":      ready,
		"waitfile":   waitFile,
		"lines":      lines,
		"exits":      exits,
		"tiny":       tiny,
		"doc":        doc,
		"edit":       edit,
		"together":   together,
		"produce":    produce,
		"tamper":     tamper,
		"eventually": untilOutput,
	}
	maps.Copy(all, more)
	return all
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

// docsDir is where the documentation is.
var docsDir = filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(tinyDir))), "..", "docs")

// doc PAGE NAME… writes blocks of a page of the documentation into files: those that begin with ```LANGUAGE NAME.
func doc(ts *testscript.TestScript, _ bool, args []string) {
	page, err := os.ReadFile(filepath.Join(docsDir, args[0]))
	ts.Check(err)
	for _, name := range args[1:] {
		block := regexp.MustCompile("(?ms)^```[a-z]+ " + regexp.QuoteMeta(name) + "$\n(.*?)^```$").FindSubmatch(page)
		if block == nil {
			ts.Fatalf("%s has no block %s", args[0], name)
		}
		ts.Check(os.WriteFile(ts.MkAbs(name), block[1], 0o644))
	}
}

// edit FILE OLD NEW replaces a text in a file, which must be there.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o644))
}

// together N ARGUMENT… runs so many processes of forebay at once, and prints what
// they print. Exit codes other than 0 and 1 are failures.
func together(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	out := make([]bytes.Buffer, n)
	cmds := make([]*exec.Cmd, n)
	for i := range cmds {
		cmds[i] = exec.Command("forebay", args[1:]...)
		cmds[i].Dir, cmds[i].Stdout, cmds[i].Stderr = ts.MkAbs("."), &out[i], &out[i]
		cmds[i].Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "USER=tester", "GIT_CONFIG_NOSYSTEM=1")
		ts.Check(cmds[i].Start())
	}
	for i, cmd := range cmds {
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
			ts.Fatalf("%v: %s", err, out[i].String())
		}
		_, err = ts.Stdout().Write(out[i].Bytes())
		ts.Check(err)
	}
}

// produce SOURCE FILE sends the rows of a file to the source's topic, as somebody
// else's program would.
func produce(ts *testscript.TestScript, _ bool, args []string) {
	a, err := app.Open(context.Background(), app.Options{Dir: ts.MkAbs("."), LookupEnv: func(name string) (string, bool) {
		value := ts.Getenv(name)
		return value, value != ""
	}})
	ts.Check(err)
	_, err = a.Produce(context.Background(), app.ProduceOptions{Source: args[0], File: ts.MkAbs(args[1])})
	ts.Check(errors.Join(err, a.Close()))
}

// tamper VIEW KEY turns a bit of the record that the embedded store has of an entity with one join key, a string.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	store, err := embedded.Open(embedded.Options{Dir: ts.MkAbs(".forebay/online"), Project: "tiny"})
	ts.Check(err)
	key := online.Key{View: args[0], Generation: 1, Entity: []byte(args[1])}
	record := make([][]byte, 1)
	ts.Check(store.Get(context.Background(), []online.Key{key}, record))
	if record[0] == nil {
		ts.Fatalf("%s has no record of %s", args[0], args[1])
	}
	record[0][len(record[0])-1] ^= 1
	_, err = store.Write(context.Background(), []online.Record{{Key: key, Value: record[0]}}, online.Always)
	ts.Check(errors.Join(err, store.Close()))
}

// eventually REGEXP COMMAND… runs a command until its output matches.
func untilOutput(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	eventually(ts, strings.Join(args, " "), func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && want.MatchString(ts.ReadFile("stdout"))
	})
}
