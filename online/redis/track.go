package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/forebay/forebay/online"
)

var _ online.Tracker = (*Store)(nil)

// The rhythm of tracking: how often a server is asked whether it is there, after how long without an
// answer it is not, and the pause before the next try.
const (
	trackPing  = time.Second
	trackDead  = 3 * time.Second
	trackPause = 250 * time.Millisecond
)

// Track implements online.Tracker by CLIENT TRACKING in broadcast mode: one connection to each
// server that takes writes, over which that tells the keys of the project that change. So the
// server remembers nothing of what was read, and a read may take any other connection.
func (s *Store) Track(ctx context.Context, t online.Tracking) {
	for ctx.Err() == nil {
		err := s.trackOnce(ctx, t)
		if ctx.Err() != nil {
			return
		}
		t.Blind(s.failed("track changes", err))
		timer := time.NewTimer(trackPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// trackOnce tracks until a server fails or they are others.
func (s *Store) trackOnce(ctx context.Context, t online.Tracking) error {
	if err := s.use(ctx, "track changes"); err != nil {
		return err
	}
	masters, err := s.masters(ctx)
	s.open.RUnlock()
	if err != nil {
		return err
	}
	ended := make(chan error, len(masters))
	var conns []*trackConn
	defer func() { // the readers end with their connections
		for _, c := range conns {
			_ = c.conn.Close()
		}
		for range conns {
			<-ended //nolint:errcheck // that they were closed
		}
	}()
	for _, o := range masters {
		c, err := s.trackDial(ctx, o)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		go func() { ended <- c.read(s, t) }()
	}
	t.Watching()
	ticker := time.NewTicker(trackPing)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err // for the count above
			return err
		case <-ticker.C:
		}
		for _, c := range conns {
			if err := c.send("PING"); err != nil {
				return err
			}
		}
		if s.o.Mode == Cluster {
			if err := s.sameMasters(ctx, masters); err != nil {
				return err
			}
		}
	}
}

func (s *Store) masters(ctx context.Context) (list []*goredis.Options, err error) {
	found := make(chan *goredis.Options, 1024)
	err = s.eachMaster(ctx, func(_ context.Context, c *goredis.Client) error {
		found <- c.Options()
		return nil
	})
	close(found)
	for o := range found {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *goredis.Options) int { return strings.Compare(a.Addr, b.Addr) })
	if err == nil && len(list) == 0 {
		err = errors.New("no server takes writes")
	}
	return list, err
}

func (s *Store) sameMasters(ctx context.Context, as []*goredis.Options) error {
	if err := s.use(ctx, "track changes"); err != nil {
		return err
	}
	now, err := s.masters(ctx)
	s.open.RUnlock()
	if err != nil {
		return err
	}
	if !slices.EqualFunc(now, as, func(a, b *goredis.Options) bool { return a.Addr == b.Addr }) {
		return errors.New("the cluster's masters are others now")
	}
	return nil
}

// trackConn is a connection on which a server tells of changes (RESP3).
type trackConn struct {
	conn net.Conn // nil in tests of what was read
	in   *bufio.Reader
	text []byte
}

func (s *Store) trackDial(ctx context.Context, o *goredis.Options) (_ *trackConn, err error) {
	dialing, cancel := context.WithTimeout(ctx, s.o.DialTimeout)
	defer cancel()
	conn, err := o.Dialer(dialing, "tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	c := &trackConn{conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	hello := []string{"HELLO", "3"}
	if s.o.Password != "" {
		user := s.o.Username
		if user == "" {
			user = "default"
		}
		hello = append(hello, "AUTH", user, s.o.Password)
	}
	for _, words := range [][]string{hello, {"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", s.o.Project + "{"}} {
		if err := c.send(words...); err != nil {
			return nil, err
		}
		if err := c.reply(nil); err != nil {
			return nil, fmt.Errorf("%s %s: %w", words[0], words[1], err)
		}
	}
	return c, nil
}

func (c *trackConn) send(words ...string) error {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(trackDead)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// read passes on what the server tells until the connection ends.
func (c *trackConn) read(s *Store, t online.Tracking) error {
	for {
		if err := c.reply(func(key []byte) {
			if k, ok := s.recordOf(key); ok {
				t.Forget(k)
			}
		}); err != nil {
			return err
		}
	}
}

var errAllKeys = errors.New("the server says that all keys are gone (FLUSHALL)")

// maxTrackedText is more than any key may have.
const maxTrackedText = 64 << 20

// reply reads one reply or push. changed is called for every key of a push that tells of changes.
func (c *trackConn) reply(changed func(key []byte)) error {
	if c.conn != nil && c.in.Buffered() == 0 {
		if err := c.conn.SetReadDeadline(time.Now().Add(trackDead)); err != nil {
			return err
		}
	}
	kind, n, err := c.head()
	if err != nil {
		return err
	}
	if kind != '>' || n < 1 {
		return c.skip(kind, n)
	}
	kind, length, err := c.head()
	if err != nil {
		return err
	}
	what, err := c.body(kind, length)
	if err != nil {
		return err
	}
	if string(what) != "invalidate" || n != 2 || changed == nil {
		for range n - 1 {
			if err := c.value(); err != nil {
				return err
			}
		}
		return nil
	}
	kind, keys, err := c.head()
	switch {
	case err != nil:
		return err
	case kind != '*' || keys < 0:
		return errAllKeys
	}
	for range keys {
		kind, length, err := c.head()
		if err != nil {
			return err
		}
		key, err := c.body(kind, length)
		if err != nil {
			return err
		}
		changed(key)
	}
	return nil
}

// head reads the line that starts a value: its kind, and its length or number of elements
// where it has one. An error of the server is an error.
func (c *trackConn) head() (kind byte, n int, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 3 {
		return 0, 0, fmt.Errorf("a reply of %q", line)
	}
	kind, line = line[0], line[1:len(line)-2]
	switch kind {
	case '-':
		return 0, 0, errors.New(string(line))
	case '$', '*', '>', '%', '~', '=':
		if n, err = strconv.Atoi(string(line)); err != nil || n > maxTrackedText {
			return 0, 0, fmt.Errorf("a reply of %q", line)
		}
	case '+', ':', '_', '#', ',', '(':
	default:
		return 0, 0, fmt.Errorf("a reply of kind %q", kind)
	}
	return kind, n, nil
}

// body reads the text that a head has announced; it is valid until the next read.
func (c *trackConn) body(kind byte, n int) ([]byte, error) {
	if kind != '$' || n < 0 {
		return nil, fmt.Errorf("a reply of kind %q where a text should be", kind)
	}
	if cap(c.text) < n+2 {
		c.text = make([]byte, n+2)
	}
	c.text = c.text[:n+2]
	_, err := io.ReadFull(c.in, c.text)
	return c.text[:n], err
}

func (c *trackConn) value() error {
	kind, n, err := c.head()
	if err != nil {
		return err
	}
	return c.skip(kind, n)
}

// skip reads past what a head has announced.
func (c *trackConn) skip(kind byte, n int) error {
	switch kind {
	case '$', '=':
		if n < 0 {
			return nil
		}
		_, err := c.in.Discard(n + 2)
		return err
	case '%':
		n *= 2
	case '*', '>', '~':
	default:
		return nil
	}
	for range n {
		if err := c.value(); err != nil {
			return err
		}
	}
	return nil
}
