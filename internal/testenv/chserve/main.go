//go:build cgo

// Chserve is a ClickHouse for tests: the real engine as a library (libchdb.so),
// behind as much of the server's HTTP interface as clickhouse-go needs. It has no native TCP, no
// sessions and no external tables.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	chp "github.com/ClickHouse/ch-go/proto"
	"golang.org/x/sys/unix"
)

type server struct {
	pool     chan *Conn
	version  string
	user, pw string
	stream   bool
	seq      atomic.Int64
	adminMu  sync.Mutex
	admin    *Conn // for KILL QUERY
}

var (
	insertRe  = regexp.MustCompile(`(?is)^\s*(?:(?:--[^\n]*\n|/\*.*?\*/)\s*)*INSERT\s+INTO\b`)
	fmtRe     = regexp.MustCompile(`(?is)\bFORMAT\s+(\w+)\s*;?\s*$`)
	valuesRe  = regexp.MustCompile(`(?is)\bVALUES\s*;?\s*$`)
	selectRe  = regexp.MustCompile(`(?is)^\s*(?:SELECT|WITH)\b`)
	helloRe   = regexp.MustCompile(`(?i)^\s*SELECT displayName\(\), version\(\), revision\(\), timezone\(\)\s*$`)
	codeRe    = regexp.MustCompile(`^Code: (\d+)\.`)
	identRe   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	notSet    = map[string]bool{"database": true, "query": true, "query_id": true, "default_format": true, "client_protocol_version": true, "compress": true, "decompress": true, "quota_key": true, "user": true, "password": true, "wait_end_of_query": true, "session_id": true, "session_timeout": true, "session_check": true, "role": true, "stacktrace": true, "buffer_size": true, "enable_http_compression": true}
	status404 = map[int]bool{60: true, 81: true, 46: true, 79: true, 115: true, 106: true, 218: true}
	status400 = map[int]bool{6: true, 16: true, 20: true, 27: true, 36: true, 38: true, 41: true, 42: true, 43: true, 44: true, 47: true, 50: true, 53: true, 62: true, 69: true, 70: true, 72: true, 117: true, 190: true, 349: true, 386: true, 403: true, 456: true, 457: true}
)

func (s *server) fail(w http.ResponseWriter, code int, msg string) {
	st := http.StatusInternalServerError
	if m := codeRe.FindStringSubmatch(msg); m != nil {
		n, _ := strconv.Atoi(m[1])
		w.Header().Set("X-ClickHouse-Exception-Code", m[1])
		switch {
		case status404[n]:
			st = 404
		case status400[n]:
			st = 400
		case n == 159:
			st = 408
		case n == 193 || n == 516:
			st = 403
		case n == 202:
			st = 503
		}
		if !strings.Contains(msg, "(version ") {
			msg = strings.TrimRight(msg, "\n") + " (version " + s.version + ")"
		}
	}
	if code != 0 {
		st = code
	}
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(st)
	io.WriteString(w, strings.TrimRight(msg, "\n")+"\n")
}

func quote(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

func run(c *Conn, q string) error {
	r := c.Query(q, "Null", nil)
	defer r.Free()
	return r.Err()
}

// apply switches the connection to the request's database and settings; undo puts the settings back.
func (c *Conn) apply(q url.Values) (undo func(), err error) {
	undo = func() {}
	if db := q.Get("database"); db != "" && db != c.db {
		if err := run(c, "USE `"+strings.ReplaceAll(db, "`", "``")+"`"); err != nil {
			return undo, err
		}
		c.db = db
	}
	var set, reset []string
	for k, v := range q {
		if notSet[k] || strings.HasPrefix(k, "param_") || !identRe.MatchString(k) {
			continue
		}
		set = append(set, k+"="+quote(v[0]))
		reset = append(reset, k+"=DEFAULT")
	}
	if len(set) == 0 {
		return undo, nil
	}
	undo = func() { run(c, "SET "+strings.Join(reset, ", ")) }
	return undo, run(c, "SET "+strings.Join(set, ", "))
}

// body gives the request body, decompressed.
func body(r *http.Request, q url.Values) (io.Reader, error) {
	var rd io.Reader = r.Body
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	default:
		return nil, errors.New("unknown Content-Encoding")
	}
	if q.Get("decompress") == "1" {
		rd = eofReader{compress.NewReader(rd)}
	}
	return rd, nil
}

// eofReader unwraps the wrapped io.EOF of ch-go's reader.
type eofReader struct{ r io.Reader }

func (e eofReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

type flushCloser struct {
	io.Writer
	close func() error
}

func (f flushCloser) Close() error { return f.close() }

// blockWriter writes ClickHouse's own compressed frames.
type blockWriter struct {
	w io.Writer
	c *compress.Writer
}

func (b blockWriter) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		k := min(len(p), 1<<20)
		if err := b.c.Compress(p[:k]); err != nil {
			return n, err
		}
		if _, err := b.w.Write(b.c.Data); err != nil {
			return n, err
		}
		n += k
		p = p[k:]
	}
	return n, nil
}

func responseWriter(w http.ResponseWriter, q url.Values) io.WriteCloser {
	if q.Get("compress") == "1" {
		m := compress.LZ4
		if strings.EqualFold(q.Get("network_compression_method"), "zstd") {
			m = compress.ZSTD
		}
		b := blockWriter{w, compress.NewWriter(0, m)}
		return flushCloser{b, func() error { return nil }}
	}
	return flushCloser{w, func() error { return nil }}
}

// hello answers clickhouse-go's first query in the revision that it asked for, and says
// that this server's revision is 0: from then on the driver decodes plain Native blocks,
// which is all that the library writes.
func (s *server) hello(w io.Writer, rev int) {
	host, _ := os.Hostname()
	var b chp.Buffer
	str := func(v string) chp.ColStr { var c chp.ColStr; c.Append(v); return c }
	name, ver, tz, rv := str(host), str(s.version), str("UTC"), chp.ColUInt32{0}
	blk := chp.Block{Info: chp.BlockInfo{BucketNum: -1}, Columns: 4, Rows: 1}
	blk.EncodeBlock(&b, rev, []chp.InputColumn{{Name: "displayName()", Data: name}, {Name: "version()", Data: ver}, {Name: "revision()", Data: rv}, {Name: "timezone()", Data: tz}})
	w.Write(b.Buf)
}

func summary(w http.ResponseWriter, st Stats, el float64) {
	w.Header().Set("X-ClickHouse-Summary", fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","total_rows_to_read":"0","result_rows":"%d","result_bytes":"%d","elapsed_ns":"%d"}`,
		st.ReadRows, st.ReadBytes, st.WrittenRows, st.WrittenBytes, st.ResRows, st.ResBytes, int64(el*1e9)))
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" || (r.Method == http.MethodGet && r.URL.RawQuery == "") {
		io.WriteString(w, "Ok.\n")
		return
	}
	q := r.URL.Query()
	u, p, ok := r.BasicAuth()
	if !ok {
		u, p = r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
		if u == "" {
			u, p = q.Get("user"), q.Get("password")
		}
	}
	if s.pw != "" && (u != s.user || p != s.pw) {
		s.fail(w, 403, "Code: 516. DB::Exception: "+u+": Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)")
		return
	}
	h := w.Header()
	h.Set("X-ClickHouse-Server-Display-Name", "chserve")
	h.Set("X-ClickHouse-Timezone", "UTC")
	id := q.Get("query_id")
	if id == "" {
		id = strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	h.Set("X-ClickHouse-Query-Id", id)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		s.fail(w, 501, "Code: 48. DB::Exception: external tables are not supported by chserve. (NOT_IMPLEMENTED)")
		return
	}

	sql := q.Get("query")
	rd, err := body(r, q)
	if err != nil {
		s.fail(w, 400, "Code: 354. DB::Exception: "+err.Error()+" (CANNOT_DECOMPRESS)")
		return
	}
	var infile *os.File // the data of an INSERT, when it comes apart from the query
	if sql != "" && insertRe.MatchString(sql) && (fmtRe.MatchString(sql) || valuesRe.MatchString(sql)) {
		fd, err := unix.MemfdCreate("insert", 0)
		if err != nil {
			s.fail(w, 500, err.Error())
			return
		}
		infile = os.NewFile(uintptr(fd), "insert")
		defer infile.Close()
		if _, err := io.Copy(infile, rd); err != nil {
			s.fail(w, 400, "Code: 354. DB::Exception: "+err.Error()+" (CANNOT_DECOMPRESS)")
			return
		}
		f := "Values"
		if m := fmtRe.FindStringSubmatchIndex(sql); m != nil {
			f, sql = sql[m[2]:m[3]], sql[:m[0]]
		} else {
			sql = sql[:valuesRe.FindStringIndex(sql)[0]]
		}
		sql += fmt.Sprintf(" FROM INFILE '/proc/self/fd/%d' COMPRESSION 'none' FORMAT %s", fd, f)
	} else {
		b, err := io.ReadAll(rd)
		if err != nil {
			s.fail(w, 400, err.Error())
			return
		}
		if sql != "" && len(b) > 0 {
			sql += "\n"
		}
		sql += string(b)
	}
	format := q.Get("default_format")
	if format == "" {
		format = "TabSeparated"
	}
	if rev, _ := strconv.Atoi(q.Get("client_protocol_version")); rev > 0 && format == "Native" && helloRe.MatchString(sql) {
		out := responseWriter(w, q)
		s.hello(out, rev)
		out.Close()
		return
	}
	var ps Params
	for k, v := range q {
		if n, ok := strings.CutPrefix(k, "param_"); ok {
			ps = append(ps, [2]string{n, v[0]})
		}
	}

	var c *Conn
	select {
	case c = <-s.pool:
	case <-r.Context().Done():
		return
	}
	defer func() { s.pool <- c }()
	undo, err := c.apply(q)
	defer undo()
	if err != nil {
		s.fail(w, 0, err.Error())
		return
	}
	if m := fmtRe.FindStringSubmatch(sql); m != nil && infile == nil {
		h.Set("X-ClickHouse-Format", m[1])
	} else {
		h.Set("X-ClickHouse-Format", format)
	}
	if s.stream && selectRe.MatchString(sql) && format == "Native" {
		s.serveStream(w, r, q, c, sql, format, ps)
		return
	}
	sql, stop := s.killable(r.Context(), sql)
	res := c.Query(sql, format, ps)
	stop()
	defer res.Free()
	if err := res.Err(); err != nil {
		c.flush()
		s.fail(w, 0, err.Error())
		return
	}
	summary(w, res.Stats(), res.Elapsed())
	h.Set("Content-Type", "application/octet-stream")
	data := res.Bytes()
	if len(data) == 0 {
		h.Set("Content-Length", "0")
		return
	}
	out := responseWriter(w, q)
	out.Write(data)
	out.Close()
	if strings.Contains(strings.ToUpper(sql), "DROP DATABASE") {
		c.db = "?"
	}
}

// flush runs a throw-away query: the library hands what a failed query had already written
// to the next query on the connection.
func (c *Conn) flush() { run(c, "SELECT 1") }

// killable marks the query and kills it, from another connection, when the client leaves.
func (s *server) killable(ctx context.Context, sql string) (string, func()) {
	mark := fmt.Sprintf("/*chserve:%d*/ ", s.seq.Add(1))
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-end:
		case <-ctx.Done():
			s.adminMu.Lock()
			run(s.admin, "KILL QUERY WHERE startsWith(query, "+quote(mark)+") ASYNC")
			s.adminMu.Unlock()
		}
	}()
	return mark + sql, func() { close(end); <-done }
}

// serveStream sends blocks as the library makes them, stops the query when the client leaves,
// and puts a late exception in the body the way the real server does.
func (s *server) serveStream(w http.ResponseWriter, r *http.Request, q url.Values, c *Conn, sql, format string, ps Params) {
	sql, stop := s.killable(r.Context(), sql)
	defer stop()
	st := c.Stream(sql, format, ps)
	defer st.Free()
	if err := st.Err(); err != nil {
		s.fail(w, 0, err.Error())
		return
	}
	var out io.WriteCloser
	for {
		if r.Context().Err() != nil {
			c.Cancel(st)
			return
		}
		ch := c.Fetch(st)
		if err := ch.Err(); err != nil {
			ch.Free()
			defer c.flush()
			if out == nil {
				s.fail(w, 0, err.Error())
				return
			}
			const tag = "chservechserve00"
			msg := err.Error() + " (version " + s.version + ")"
			fmt.Fprintf(out, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", tag, msg, len(msg), tag)
			out.Close()
			return
		}
		b := ch.Bytes()
		if len(b) == 0 {
			ch.Free()
			break
		}
		if out == nil {
			out = responseWriter(w, q)
		}
		_, werr := out.Write(b)
		ch.Free()
		if werr != nil {
			c.Cancel(st)
			return
		}
	}
	if out == nil {
		w.Header().Set("Content-Length", "0")
		return
	}
	out.Close()
}

func main() {
	lib := flag.String("lib", os.Getenv("LIBCHDB"), "path of libchdb.so (default $LIBCHDB)")
	dir := flag.String("path", "", "data directory")
	addr := flag.String("addr", "127.0.0.1:8123", "listen address")
	n := flag.Int("conns", 4, "library connections (concurrent queries)")
	user := flag.String("user", "default", "")
	pw := flag.String("password", "", "")
	flag.Parse()
	t0 := time.Now()
	if err := loadLib(*lib); err != nil {
		log.Fatal(err)
	}
	s := &server{pool: make(chan *Conn, *n), user: *user, pw: *pw, stream: true}
	for i := 0; i <= *n; i++ {
		c, err := connect("clickhouse", "--path="+*dir)
		if err != nil {
			log.Fatal(err)
		}
		if i == 0 {
			s.admin = c
			continue
		}
		s.pool <- c
	}
	c := <-s.pool
	v := c.Query("SELECT version()", "TSVRaw", nil)
	s.version = string(bytes.TrimSpace(v.Bytes()))
	v.Free()
	s.pool <- c
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: s}
	log.Printf("chserve: ClickHouse %s on http://%s, %d connections, ready in %v", s.version, l.Addr(), *n, time.Since(t0).Round(time.Millisecond))
	go srv.Serve(l)
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, os.Interrupt, syscall.SIGTERM)
	<-sig
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	srv.Shutdown(ctx)
	for i := 0; i < *n; i++ {
		(<-s.pool).Close()
	}
	s.admin.Close()
	log.Print("chserve: closed")
}
