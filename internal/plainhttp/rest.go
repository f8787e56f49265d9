package plainhttp

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Rest is the listener from which net/http takes all other connections. Its address is that of
// the listener that is served.
func (f *Front) Rest() net.Listener { return &f.rest }

// Attach makes a server, which is to serve Rest, end as the front does: once Shutdown has begun its answers end
// their connections (with a GOAWAY over HTTP/2), and Shutdown knows which of them still wait for a request. It sets the
// server's Handler and ConnState, before the server serves.
func (f *Front) Attach(server *http.Server) {
	next := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
	server.ConnState = f.rest.state
	f.rest.attached = true
}

// rest are the connections that net/http serves.
type rest struct {
	attached bool
	conns    chan net.Conn
	closed   chan struct{}
	once     sync.Once

	mu      sync.Mutex
	open    map[*begunConn]time.Time // since when each waits for a request; zero while it has one
	changed chan struct{}            // has one entry after a change of open
}

func newRest() rest {
	return rest{conns: make(chan net.Conn), closed: make(chan struct{}), open: map[*begunConn]time.Time{}, changed: make(chan struct{}, 1)}
}

// give hands over a connection, with what was read of it.
func (f *Front) give(c *conn) bool {
	b, _ := c.in.Peek(c.in.Buffered())
	_ = c.net.SetDeadline(time.Time{})
	given := &begunConn{Conn: c.net, rest: &f.rest, begun: bytes.Clone(b)}
	f.rest.note(given, time.Time{}) // before anybody can ask whether all are at rest
	select {
	case f.rest.conns <- given:
		return true
	case <-f.rest.closed:
	case <-f.base.Done():
	}
	f.rest.forget(given)
	return false
}

// state is an http.Server's ConnState.
func (r *rest) state(nc net.Conn, s http.ConnState) {
	c, ours := nc.(*begunConn)
	if !ours {
		return
	}
	switch s {
	case http.StateIdle:
		r.note(c, time.Now())
	case http.StateActive:
		r.note(c, time.Time{})
	case http.StateNew, http.StateHijacked, http.StateClosed: // Close tells of the last
	}
}

func (r *rest) note(c *begunConn, idle time.Time) {
	r.mu.Lock()
	if !c.ended { // HTTP/2 tells of streams after the connection's end
		r.open[c] = idle
	}
	r.mu.Unlock()
	r.tell()
}

func (r *rest) forget(c *begunConn) {
	r.mu.Lock()
	c.ended = true
	delete(r.open, c)
	r.mu.Unlock()
	r.tell()
}

func (r *rest) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// settle waits until every connection has ended, or has waited for a request for as long as grace, from an instant on. One
// whose answer was under way before it could say that it is the last gets its grace from then. When ctx ends, what is
// left is the server's to judge.
func (r *rest) settle(ctx context.Context, from time.Time, grace time.Duration) {
	if !r.attached {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, busy := r.due(from, grace)
		wait := time.Until(due)
		switch {
		case busy:
			wait = time.Hour // there will be a change
		case wait <= 0:
			return
		}
		timer.Reset(wait)
		select {
		case <-r.changed:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// due is the instant at which all idle connections have waited for long enough; busy says whether there are others.
func (r *rest) due(from time.Time, grace time.Duration) (due time.Time, busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, idle := range r.open {
		if idle.IsZero() {
			return due, true
		}
		if idle.Before(from) {
			idle = from
		}
		if at := idle.Add(grace); at.After(due) {
			due = at
		}
	}
	return due, false
}

// Accept implements net.Listener.
func (r *rest) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (r *rest) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

// Addr implements net.Listener.
func (*rest) Addr() net.Addr { return &net.TCPAddr{} }

// begunConn is a connection of which something was read.
type begunConn struct {
	net.Conn
	rest  *rest
	begun []byte
	ended bool // under rest.mu
}

// Read implements net.Conn.
func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.begun) > 0 {
		n := copy(p, c.begun)
		c.begun = c.begun[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Close implements net.Conn.
func (c *begunConn) Close() error {
	c.rest.forget(c)
	return c.Conn.Close()
}
