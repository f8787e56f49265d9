package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/forebay/forebay/online"
)

// Records are read over connections of this package's own, in the way that takes least: a command written whole by one
// call, a reply read through one buffer, nothing made for a key. The client says where
// servers are and makes the connections; and whatever is not a plain reply (an error of any kind, a
// connection that breaks) is left to it: the keys are asked for again by way of it, with
// its retries, redirections and words.

const (
	// A connection that was not used for so long may have been forgotten by what is in between.
	readerIdle = time.Minute
	// A connection this old is made anew: the server may have become another's replica without ending it.
	readerLife = time.Minute
	// Where a connection cannot be made none is tried for so long.
	readerRest = time.Second
	// A server with which all connections are in use, and no round trip has ended for so long, does not answer: nobody
	// else waits for it. So it holds up no more than these, and what asks other servers goes on.
	readerStuck = 250 * time.Millisecond
	// replyBuffer is the memory for replies that a connection begins with, and maxKept the most that it keeps, for
	// commands and replies each. maxLine bounds the line that begins a reply.
	replyBuffer = 64 << 10
	maxKept     = 1 << 20
	maxLine     = 1 << 10
)

// reader reads records from one server. It is safe for concurrent use.
type reader struct {
	client *goredis.Client // of the server
	limit  time.Duration   // of a round trip
	turns  chan struct{}   // one for each connection in use
	trips  atomic.Int64    // round trips that have ended well
	stuck  atomic.Bool     // all connections are in use, and no round trip ends
	used   atomic.Int64    // when it was last, in nanoseconds of the Unix epoch
	rest   atomic.Int64    // until when no connection is made

	mu     sync.Mutex
	idle   []*readerConn // the one used last at the end
	closed bool
}

// readerConn is one connection. Between round trips nothing is on its way.
type readerConn struct {
	net.Conn
	until    time.Time // it is not used after
	used     time.Time
	deadline time.Time // that is set
	out      []byte    // commands
	in       []byte    // of replies, what was read
	at       int       // of in, what was taken
}

// errReply is an error that Redis has answered with; what it is matters to the client alone.
var errReply = errors.New("redis: answered with an error")

// errStuck says that a server does not answer those who ask it already.
var errStuck = errors.New("it does not answer those who ask it already")

// errNoReader says that the client is to be asked instead, at once.
var errNoReader = errors.New("redis: no connection to read from")

func newReader(c *goredis.Client, o *Options) *reader {
	return &reader{client: c, limit: o.Timeout, turns: make(chan struct{}, o.PoolSize)}
}

// take gives a connection for one round trip, which ends with give or drop.
func (r *reader) take(ctx context.Context) (*readerConn, error) {
	if err := r.turn(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	r.used.Store(now.UnixNano())
	c, err := r.connect(ctx, now)
	if err != nil {
		<-r.turns
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok || deadline.Sub(now) > r.limit {
		// The limit is kept to the quarter, so that it need not be set every time.
		if deadline = c.deadline; deadline.Sub(now) > r.limit || deadline.Sub(now) < r.limit*3/4 {
			deadline = now.Add(r.limit)
		}
	}
	if !deadline.Equal(c.deadline) {
		if err := c.SetDeadline(deadline); err != nil {
			r.drop(c, err)
			return nil, err
		}
		c.deadline = deadline
	}
	c.used, c.out, c.in, c.at = now, c.out[:0], c.in[:0], 0
	return c, nil
}

// turn waits until there may be a connection more.
func (r *reader) turn(ctx context.Context) error {
	select {
	case r.turns <- struct{}{}:
		return nil
	default:
	}
	if r.stuck.Load() {
		return errStuck
	}
	before := r.trips.Load()
	timer := time.NewTimer(readerStuck)
	defer timer.Stop()
	for {
		select {
		case r.turns <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			now := r.trips.Load()
			if now == before {
				r.stuck.Store(true)
				if r.trips.Load() != now { // one has just ended, and may have done so before
					r.stuck.Store(false)
				}
				return errStuck
			}
			before = now
			timer.Reset(readerStuck)
		}
	}
}

// connect finds a connection, or makes one.
func (r *reader) connect(ctx context.Context, now time.Time) (*readerConn, error) {
	r.mu.Lock()
	for n := len(r.idle); n > 0; n = len(r.idle) {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		if now.Sub(c.used) < readerIdle && now.Before(c.until) {
			r.mu.Unlock()
			return c, nil
		}
		_ = c.Close()
	}
	closed := r.closed
	r.mu.Unlock()
	if closed || now.UnixNano() < r.rest.Load() {
		return nil, errNoReader
	}
	c, err := r.dial(ctx, now)
	if err != nil && ctx.Err() == nil {
		r.rest.Store(time.Now().Add(readerRest).UnixNano())
	}
	return c, err
}

func (r *reader) dial(ctx context.Context, now time.Time) (*readerConn, error) {
	o := r.client.Options()
	conn, err := o.Dialer(ctx, o.Network, o.Addr)
	if err != nil {
		return nil, err
	}
	c := &readerConn{Conn: conn, until: now.Add(readerLife - rand.N(readerLife/4))} // not all at a time
	var hello [][]string
	switch {
	case o.Username != "":
		hello = append(hello, []string{"AUTH", o.Username, o.Password})
	case o.Password != "":
		hello = append(hello, []string{"AUTH", o.Password})
	}
	if o.DB != 0 {
		hello = append(hello, []string{"SELECT", strconv.Itoa(o.DB)})
	}
	if len(hello) == 0 {
		return c, nil
	}
	for _, words := range hello {
		c.command(len(words))
		for _, w := range words {
			c.word(w)
		}
	}
	c.deadline = now.Add(r.limit)
	if d, ok := ctx.Deadline(); ok && d.Before(c.deadline) {
		c.deadline = d
	}
	if err = c.SetDeadline(c.deadline); err == nil {
		err = c.send()
	}
	for range hello {
		if err == nil {
			_, err = c.line('+')
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// give takes a connection back whose replies were all read.
func (r *reader) give(c *readerConn) {
	if cap(c.out) > maxKept {
		c.out = nil
	}
	if cap(c.in) > maxKept {
		c.in = nil
	}
	r.mu.Lock()
	if r.closed {
		_ = c.Close()
	} else {
		r.idle = append(r.idle, c)
	}
	r.mu.Unlock()
	r.trips.Add(1)
	r.stuck.Store(false)
	<-r.turns
}

// drop ends a connection on which a round trip failed, and unless it only took too long those that lie idle: they mostly
// broke with it.
func (r *reader) drop(c *readerConn, err error) {
	_ = c.Close()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		r.mu.Lock()
		r.closeIdle()
		r.mu.Unlock()
	}
	<-r.turns
}

func (r *reader) closeIdle() {
	for _, c := range r.idle {
		_ = c.Close()
	}
	r.idle = nil
}

// close ends the idle connections; those in use end when they are given back.
func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.closeIdle()
}

// mget reads keys by an MGET for each getKeys of them, sent together. On an error dst may be filled in part.
func (r *reader) mget(ctx context.Context, keys []string, dst [][]byte) error {
	c, err := r.take(ctx)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(keys, getKeys) {
		c.command(1 + len(part))
		c.word("MGET")
		for _, k := range part {
			c.word(k)
		}
	}
	refused := false
	err = c.send()
	slab := online.Slab{Left: len(keys)}
	for part := range slices.Chunk(dst, getKeys) {
		n := 0
		if err == nil {
			n, err = c.line('*')
		}
		switch {
		case errors.Is(err, errReply):
			refused, err = true, nil
			continue
		case err == nil && n != len(part):
			err = fmt.Errorf("redis: a reply with %d records for %d keys", n, len(part))
		}
		for i := 0; i < len(part) && err == nil; i++ {
			err = c.record(&part[i], &slab)
		}
		if err != nil {
			r.drop(c, err)
			return err
		}
	}
	r.give(c)
	if refused {
		return errReply
	}
	return nil
}

// command begins a command of so many words.
func (c *readerConn) command(words int) {
	c.out = append(strconv.AppendInt(append(c.out, '*'), int64(words), 10), '\r', '\n')
}

func (c *readerConn) word(w string) {
	c.out = append(strconv.AppendInt(append(c.out, '$'), int64(len(w)), 10), '\r', '\n')
	c.out = append(append(c.out, w...), '\r', '\n')
}

// send sends the commands.
func (c *readerConn) send() error {
	_, err := c.Write(c.out)
	return err
}

// line takes the line that begins a reply: it must be of the kind that is wanted, and has a number unless that is '+'. The
// error is errReply where Redis answers with an error, all of which was taken then.
func (c *readerConn) line(kind byte) (n int, err error) {
	var end, from int
	for {
		if end = bytes.IndexByte(c.in[c.at+from:], '\n'); end >= 0 {
			end += from
			break
		}
		if from = len(c.in) - c.at; from > maxLine {
			return 0, errors.New("redis: a reply whose line does not end")
		}
		if err := c.more(1); err != nil {
			return 0, err
		}
	}
	b := c.in[c.at : c.at+end]
	c.at += end + 1
	switch {
	case end < 2 || b[end-1] != '\r':
	case b[0] == '-':
		return 0, errReply
	case b[0] != kind:
	case kind == '+':
		return 0, nil
	default:
		if n, ok := number(b[1 : end-1]); ok {
			return n, nil
		}
	}
	return 0, fmt.Errorf("redis: a reply that begins %.40q, want one of kind %q", b, kind)
}

// number reads what is mostly of one to four digits, or -1.
func number(b []byte) (n int, ok bool) {
	if string(b) == "-1" {
		return -1, true
	}
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + int(d-'0')
	}
	return n, true
}

// record takes a value: a record, or nil where there is none.
func (c *readerConn) record(dst *[]byte, slab *online.Slab) error {
	n, err := c.line('$')
	if err != nil {
		return err
	}
	if n < 0 {
		slab.None(dst)
		return nil
	}
	if have := len(c.in) - c.at; have < n+2 {
		if err := c.more(n + 2 - have); err != nil {
			return err
		}
	}
	slab.Copy(dst, c.in[c.at:c.at+n])
	c.at += n + 2
	return nil
}

// more reads so many bytes at least. What was taken makes room for them.
func (c *readerConn) more(n int) error {
	if rest := c.in[c.at:]; cap(c.in)-len(c.in) < n {
		to := c.in[:0]
		if cap(to) < len(rest)+n {
			to = make([]byte, 0, max(len(rest)+n, min(2*cap(to), maxKept), replyBuffer))
		}
		c.in, c.at = append(to, rest...), 0
	}
	for n > 0 {
		m, err := c.Read(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+m]
		if n -= m; n > 0 && err != nil {
			return err
		}
	}
	return nil
}
