package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Closed is a closed loop over connections that are kept: each sends its next request as soon as
// the last is answered. One thread serves them all by epoll, as redis-benchmark and wrk do, so
// that the load takes little of a machine that it shares with the server. It is used by one goroutine.
type Closed struct {
	poll     int // the epoll's descriptor
	conns    []closedConn
	requests []Request
	next     int
	buf      []byte
	seen     share
	took     time.Duration
}

// closedConn is a connection and what is known of the answer that it waits for.
type closedConn struct {
	fd   int
	from time.Time
	head []byte // of the answer, until it is whole
	left int    // bytes of the body to come; -1 while the head is not whole
	size int    // of the body
	fail []byte // the head, where the status is not 200
	busy bool
}

// DialClosed connects to a server of HTTP, host:port. The nth request sent is requests[n modulo their number].
func DialClosed(ctx context.Context, addr string, requests []Request, connections int) (_ *Closed, err error) {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", os.NewSyscallError("epoll_create1", err))
	}
	c := &Closed{poll: poll, requests: requests, buf: make([]byte, 256<<10)}
	c.Reset()
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	for i := range connections {
		conn, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		fd, err := own(conn)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		c.conns = append(c.conns, closedConn{fd: fd})
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)} //nolint:gosec // few
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			return nil, fmt.Errorf("bench: %w", os.NewSyscallError("epoll_ctl", err))
		}
	}
	return c, nil
}

// own takes a connection from the runtime, which would poll it too: its descriptor, which does not block.
func own(conn net.Conn) (fd int, err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var dup error
	err = raw.Control(func(s uintptr) {
		if fd, dup = syscall.Dup(int(s)); dup == nil {
			syscall.CloseOnExec(fd)
		}
	})
	return fd, errors.Join(err, os.NewSyscallError("dup", dup))
}

// Run asks for a while; answers that are on their way at its end are waited for. It returns the
// requests answered in a second.
func (c *Closed) Run(ctx context.Context, d time.Duration) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	end, before := start.Add(d), c.seen.hist.TotalCount()
	waiting := 0
	for i := range c.conns {
		if err := c.ask(&c.conns[i]); err != nil {
			return 0, err
		}
		waiting++
	}
	events := make([]syscall.EpollEvent, len(c.conns))
	for waiting > 0 {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		n, err := syscall.EpollWait(c.poll, events, 100)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return 0, fmt.Errorf("bench: %w", os.NewSyscallError("epoll_wait", err))
		}
		now := time.Now()
		if n <= 0 {
			if now.After(end.Add(answerTimeout)) {
				return 0, fmt.Errorf("bench: %d requests were not answered within %v", waiting, answerTimeout)
			}
			continue
		}
		for _, e := range events[:n] {
			conn := &c.conns[e.Fd]
			done, err := c.read(conn)
			if err != nil {
				return 0, err
			}
			if !done {
				continue
			}
			now := time.Now()
			c.seen.add(now.Sub(conn.from), conn.size, conn.failed())
			if conn.busy = false; now.Before(end) {
				if err := c.ask(conn); err != nil {
					return 0, err
				}
			} else {
				waiting--
			}
		}
	}
	took := time.Since(start)
	c.took += took
	return float64(c.seen.hist.TotalCount()-before) / took.Seconds(), nil
}

// Figures are those of all runs since Reset.
func (c *Closed) Figures() Figures { return sum([]share{c.seen}, c.took, 0) }

// Reset forgets the runs so far.
func (c *Closed) Reset() {
	c.seen, c.took = share{hist: hdrhistogram.New(lowest, highest, digits)}, 0
}

// ask sends the next request. It waits while the kernel does not take it whole, which it nearly always does.
func (c *Closed) ask(conn *closedConn) error {
	r := c.requests[c.next%len(c.requests)]
	c.next++
	*conn = closedConn{fd: conn.fd, from: time.Now(), head: conn.head[:0], left: -1, busy: true}
	for len(r) > 0 {
		n, err := syscall.Write(conn.fd, r)
		switch {
		case err == nil:
			r = r[n:]
		case errors.Is(err, syscall.EAGAIN):
			runtime.Gosched() // the server has yet to read the beginning
		case !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("bench: send a request: %w", err)
		}
	}
	return nil
}

// read takes what has come of an answer, and says whether that is all.
func (c *Closed) read(conn *closedConn) (done bool, err error) {
	n, err := syscall.Read(conn.fd, c.buf)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("bench: read an answer: %w", err)
	case n == 0 || !conn.busy:
		return false, errors.New("bench: the server closed a connection, or sent what was not asked for")
	}
	got := c.buf[:n]
	if conn.left < 0 {
		conn.head = append(conn.head, got...)
		end := bytes.Index(conn.head, []byte("\r\n\r\n"))
		if end < 0 {
			return false, nil
		}
		head := conn.head[:end+2]
		got = conn.head[end+4:]
		if conn.left, err = bodyLength(head); err != nil {
			return false, err
		}
		conn.size = conn.left
		if len(head) < 12 || string(head[9:12]) != strconv.Itoa(http.StatusOK) {
			conn.fail = append(bytes.Clone(head), got[:min(len(got), 512)]...)
		}
	}
	if conn.left -= len(got); conn.left < 0 {
		return false, errors.New("bench: an answer that is longer than its Content-Length")
	}
	return conn.left == 0, nil
}

// bodyLength is the Content-Length in a head.
func bodyLength(head []byte) (int, error) {
	const name = "content-length:"
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			n, err := strconv.Atoi(string(bytes.TrimSpace(line[len(name):])))
			if err != nil || n < 0 {
				return 0, fmt.Errorf("bench: an answer with %q", line)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("bench: an answer without a Content-Length: %q", head[:min(len(head), 200)])
}

func (conn *closedConn) failed() error {
	if conn.fail == nil {
		return nil
	}
	return errors.New(string(conn.fail))
}

// Close closes the connections.
func (c *Closed) Close() error {
	errs := []error{syscall.Close(c.poll)}
	for i := range c.conns {
		errs = append(errs, syscall.Close(c.conns[i].fd))
	}
	c.conns = nil
	return errors.Join(errs...)
}
