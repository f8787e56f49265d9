package plainhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Options says what is served and how long is waited. All but Log are required.
type Options struct {
	Handler http.Handler
	// Targets are what is served here: "POST /v1/features". Their paths have no parameters.
	Targets []string
	// HeaderTimeout bounds the time from a request's first byte to the end of its head.
	HeaderTimeout time.Duration
	// IdleTimeout closes a connection on which nothing is asked.
	IdleTimeout time.Duration
	// DrainGrace is for how long after Shutdown a connection that is idle may still bring a
	// request: one that was on its way is answered and not cut off. 0 closes it at once. It holds for
	// the connections of Rest too, where their server is attached.
	DrainGrace time.Duration
	// Log is told of panics that handlers let through.
	Log *slog.Logger
}

// Front serves connections. It is safe for concurrent use.
type Front struct {
	o       Options
	targets []target
	rest    rest
	base    context.Context //nolint:containedctx // of requests: it ends with the server
	end     context.CancelFunc

	closing  atomic.Bool    // Serve is to end
	draining atomic.Bool    // it has, and answers end their connections: not before, or who connects anew might be let in no more
	serving  sync.WaitGroup // connections

	mu       sync.Mutex
	listener net.Listener
	accepted chan struct{} // closed at the end of Serve
	since    time.Time     // draining
	conns    map[*conn]struct{}
}

// New makes a front that serves nothing yet.
func New(o Options) *Front {
	f := &Front{o: o, conns: map[*conn]struct{}{}}
	for _, name := range o.Targets {
		f.targets = append(f.targets, newTarget(name))
	}
	f.base, f.end = context.WithCancel(context.Background())
	f.rest = newRest()
	return f
}

// Context is that of every request served here, and ends with the server.
func (f *Front) Context() context.Context { return f.base }

// Serve accepts connections until Shutdown or Close, and then returns http.ErrServerClosed.
func (f *Front) Serve(l net.Listener) error {
	f.mu.Lock()
	f.listener, f.accepted = l, make(chan struct{})
	f.mu.Unlock()
	defer close(f.accepted)
	defer func() { _ = l.Close() }() // Shutdown may have
	if f.closing.Load() {
		return http.ErrServerClosed
	}
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		if err != nil {
			if f.closing.Load() {
				return http.ErrServerClosed
			}
			var passing net.Error
			if !errors.As(err, &passing) || !passing.Temporary() { //nolint:staticcheck // as net/http: too many open files pass
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
			continue
		}
		pause = 0
		c := &conn{f: f, net: nc, in: bufio.NewReaderSize(nc, bufferSize)}
		c.out.c, c.out.header = c, http.Header{}
		c.req = (&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: nc.RemoteAddr().String()}).WithContext(f.base)
		if !f.add(c) {
			_ = nc.Close()
			continue
		}
		go c.serve()
	}
}

func (f *Front) add(c *conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining.Load() {
		return false
	}
	f.conns[c] = struct{}{}
	f.serving.Add(1)
	return true
}

func (f *Front) remove(c *conn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
	f.serving.Done()
}

// Shutdown stops accepting, lets requests end that are being answered, and those that come
// within DrainGrace on idle connections; it returns ctx's error if that takes longer. The connections
// of Rest are waited for in the same way, where their server is attached, and are its own to shut
// down afterwards: Shutdown of net/http closes at once what is idle.
func (f *Front) Shutdown(ctx context.Context) error {
	f.stopAccepting(lastCalls)
	ended := make(chan struct{})
	go func() {
		f.serving.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		f.end()
		f.rest.settle(ctx, f.drainingSince(), f.o.DrainGrace)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Front) drainingSince() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.since
}

// Close closes everything at once, and waits for the handlers.
func (f *Front) Close() error {
	f.stopAccepting(0)
	f.end()
	f.mu.Lock()
	for c := range f.conns {
		_ = c.net.Close()
	}
	f.mu.Unlock()
	f.serving.Wait()
	return nil
}

// lastCalls is for how long Shutdown still accepts: who has connected already, and waits to be accepted, would
// find the connection reset.
const lastCalls = 5 * time.Millisecond

// stopAccepting ends Serve, after that time if it can, and begins to drain the connections that there are.
func (f *Front) stopAccepting(after time.Duration) {
	f.mu.Lock()
	f.closing.Store(true)
	l, accepted := f.listener, f.accepted
	f.mu.Unlock()
	if l != nil {
		if d, ok := l.(interface{ SetDeadline(t time.Time) error }); !ok || after == 0 || d.SetDeadline(time.Now().Add(after)) != nil {
			_ = l.Close()
		}
		<-accepted
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining.Swap(true) {
		return
	}
	f.since = time.Now()
	until := f.since.Add(f.o.DrainGrace)
	for c := range f.conns {
		c.drain(until)
	}
}

// bufferSize is the greatest head that is plain.
const bufferSize = 4 << 10

// conn is one connection.
type conn struct {
	f   *Front
	net net.Conn
	in  *bufio.Reader
	out response

	raw     []byte // the head before, and what it means
	head    head
	req     *http.Request
	body    body
	writeAt time.Time // the write deadline that is set

	wantWrite    time.Time // and that which is to be
	readDeadline time.Time // that which is set

	mu   sync.Mutex
	idle bool
}

func (c *conn) serve() {
	handed := false
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler && c.f.o.Log != nil { //nolint:errorlint // as it is thrown
			c.f.o.Log.Error("panic while a request was served", "panic", p, "stack", string(debug.Stack()))
		}
		if !handed {
			_ = c.net.Close()
		}
		c.f.remove(c)
	}()
	for {
		n, ok := c.next()
		if !ok {
			return
		}
		if n == 0 {
			handed = c.f.give(c)
			return
		}
		if !c.answer(n) {
			return
		}
	}
}

// next waits for a whole head; 0 if it is not a plain one, false at the connection's end.
func (c *conn) next() (n int, ok bool) {
	if c.in.Buffered() == 0 {
		c.setReadDeadline(time.Now().Add(c.f.o.IdleTimeout), time.Second)
		c.rest(true)
		_, err := c.in.Peek(1)
		c.rest(false)
		if err != nil {
			return 0, false
		}
	}
	for started := (time.Time{}); ; {
		b, _ := c.in.Peek(c.in.Buffered())
		if end := bytes.Index(b, []byte("\r\n\r\n")); end >= 0 {
			b = b[:end+4]
			if !bytes.Equal(b, c.raw) {
				h, plain := parse(b, c.f.targets)
				if !plain {
					return 0, true
				}
				c.raw, c.head = append(c.raw[:0], b...), h
			}
			return len(b), true
		}
		if len(b) == bufferSize || !c.possible(b) || bareEnd(b) {
			return 0, true
		}
		if started.IsZero() {
			started = time.Now()
			c.setReadDeadline(started.Add(c.f.o.HeaderTimeout), 0)
		}
		if _, err := c.in.Peek(len(b) + 1); err != nil {
			return 0, errors.Is(err, io.EOF) // it may be whole to net/http
		}
	}
}

// possible says whether what starts like b can be a plain head: what speaks another protocol need not
// wait for an end that will not come.
func (c *conn) possible(b []byte) bool {
	for i := range c.f.targets {
		line := c.f.targets[i].line
		if n := min(len(b), len(line)); bytes.Equal(b[:n], line[:n]) {
			return true
		}
	}
	return false
}

// bareEnd says whether a line ends without a carriage return, so that the end of the head may be another.
func bareEnd(b []byte) bool {
	for i := bytes.IndexByte(b, '\n'); i >= 0; {
		if i == 0 || b[i-1] != '\r' {
			return true
		}
		next := bytes.IndexByte(b[i+1:], '\n')
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}

// rest notes that the connection waits for a request, or no longer.
func (c *conn) rest(idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle = idle; idle && c.f.draining.Load() {
		_ = c.net.SetReadDeadline(time.Now().Add(c.f.o.DrainGrace))
	}
}

// drain ends the connection at an instant, if nothing comes until then.
func (c *conn) drain(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		_ = c.net.SetReadDeadline(until)
	}
}

// setReadDeadline sets a deadline, unless the one that is set is nearly that.
func (c *conn) setReadDeadline(t time.Time, nearly time.Duration) {
	if d := t.Sub(c.readDeadline); d >= 0 && d < nearly {
		return
	}
	c.readDeadline = t
	_ = c.net.SetReadDeadline(t)
}

// writing sets the write deadline that was asked for, unless the one that is set is nearly that.
func (c *conn) writing() {
	if d := c.wantWrite.Sub(c.writeAt); d < 0 || d >= time.Second {
		c.writeAt = c.wantWrite
		_ = c.net.SetWriteDeadline(c.wantWrite)
	}
}

func (c *conn) bodyArrived() bool { return c.body.left <= int64(c.in.Buffered()) }

// answer serves one request whose head has n bytes. It is false at the connection's end.
func (c *conn) answer(n int) bool {
	_, _ = c.in.Discard(n) // they are buffered
	c.body = body{c: c, left: c.head.length}
	c.req.Method, c.req.URL, c.req.RequestURI = c.head.target.method, c.head.target.url, c.head.target.url.Path
	c.req.Header, c.req.Body, c.req.ContentLength, c.req.Host = c.head.header, &c.body, c.head.length, c.head.host
	if c.head.length == 0 {
		c.req.Body = http.NoBody
	}
	c.out.reset()
	c.f.o.Handler.ServeHTTP(&c.out, c.req)
	left := c.body.left
	if left > int64(c.in.Buffered()) { // the handler did not want it, and nor do we wait for it
		c.out.last = true
	}
	if !c.out.finish() {
		if left > 0 {
			c.linger()
		}
		return false
	}
	if left > 0 {
		_, _ = c.in.Discard(int(left)) //nolint:gosec // it is buffered
	}
	return true
}

// linger ends an answer whose request was not read whole so that the client can read it: closing
// with bytes unread would reset the connection.
func (c *conn) linger() {
	if t, ok := c.net.(*net.TCPConn); ok && c.out.err == nil {
		_ = t.CloseWrite()
		_ = c.net.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		_, _ = io.CopyN(io.Discard, c.in, 256<<10)
	}
}

// body is a request's body.
type body struct {
	c    *conn
	left int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.c.in.Read(p)
	b.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case err == nil && b.left == 0:
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (*body) Close() error { return nil }
