package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Redis says how to reach one server.
type Redis struct {
	Addr               string
	Username, Password string
	DB                 int
	TLS                *tls.Config // nil for none
}

// redisClient speaks the protocol of Redis with nothing on top: what it measures is the server.
type redisClient struct {
	conn     net.Conn
	in       *bufio.Reader
	commands [][]byte
	replies  int // to each
}

// DialRedis connects to Redis. Client.Do sends commands[n modulo their number]
// and reads as many replies: more than 1 where a command is a pipeline. The bytes of an answer
// are those of the values in it.
func DialRedis(ctx context.Context, r Redis, commands [][]byte, replies int) (Client, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.commands, c.replies = commands, replies
	return c, nil
}

func (r Redis) dial(ctx context.Context) (*redisClient, error) {
	conn, err := dial(ctx, r.Addr)
	if err != nil {
		return nil, err
	}
	if r.TLS != nil {
		conn = tls.Client(conn, r.TLS)
	}
	c := &redisClient{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	var hello [][]byte
	switch {
	case r.Username != "":
		hello = append(hello, Command("AUTH", r.Username, r.Password))
	case r.Password != "":
		hello = append(hello, Command("AUTH", r.Password))
	}
	if r.DB != 0 {
		hello = append(hello, Command("SELECT", strconv.Itoa(r.DB)))
	}
	for _, command := range hello {
		if _, err := c.ask(command, 1, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("bench: redis %s: %w", r.Addr, err), conn.Close())
		}
	}
	return c, nil
}

// Command is a command as Redis reads it.
func Command(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// Keys finds at most n keys of strings by a pattern, as SCAN takes it.
func (r Redis) Keys(ctx context.Context, pattern string, n int) (keys []string, err error) {
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	cursor := "0"
	for {
		var texts []string
		if _, err := c.ask(Command("SCAN", cursor, "MATCH", pattern, "COUNT", "1000", "TYPE", "string"), 1, &texts); err != nil {
			return nil, fmt.Errorf("bench: redis %s: look for %s: %w", r.Addr, pattern, err)
		}
		if len(texts) == 0 {
			return nil, fmt.Errorf("bench: redis %s: SCAN answered nothing", r.Addr)
		}
		if cursor, keys = texts[0], append(keys, texts[1:]...); cursor == "0" || len(keys) >= n {
			return keys[:min(n, len(keys))], nil
		}
	}
}

// Remove removes the keys that a pattern matches.
func (r Redis) Remove(ctx context.Context, pattern string) (err error) {
	c, err := r.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	cursor := "0"
	for {
		var texts []string
		if _, err := c.ask(Command("SCAN", cursor, "MATCH", pattern, "COUNT", "1000"), 1, &texts); err != nil || len(texts) == 0 {
			return errors.Join(fmt.Errorf("bench: redis %s: look for %s", r.Addr, pattern), err)
		}
		if len(texts) > 1 {
			if _, err := c.ask(Command(append([]string{"UNLINK"}, texts[1:]...)...), 1, nil); err != nil {
				return fmt.Errorf("bench: redis %s: remove %s: %w", r.Addr, pattern, err)
			}
		}
		if cursor = texts[0]; cursor == "0" {
			return nil
		}
	}
}

// Do implements Client.
func (c *redisClient) Do(n int64) (int, error) {
	return c.ask(c.commands[n%int64(len(c.commands))], c.replies, nil)
}

func (c *redisClient) ask(command []byte, replies int, texts *[]string) (bytes int, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(command); err != nil {
		return 0, err
	}
	for range replies {
		n, err := c.reply(texts)
		if bytes += n; err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// reply reads one reply. texts, if not nil, takes the values in it.
func (c *redisClient) reply(texts *[]string) (int, error) {
	line, err := readLine(c.in)
	if err != nil {
		return 0, err
	}
	if len(line) == 0 {
		return 0, errors.New("an empty reply")
	}
	kind, rest := line[0], string(line[1:])
	switch kind {
	case '+', ':':
		return len(rest), nil
	case '-':
		return 0, errors.New(rest)
	}
	n, err := strconv.Atoi(rest)
	switch {
	case err != nil:
		return 0, fmt.Errorf("a reply of %q", line)
	case kind == '$' && n < 0, kind == '*' && n < 0:
		return 0, nil
	case kind == '$' && texts != nil:
		text := make([]byte, n)
		for at := 0; at < n; {
			m, err := c.in.Read(text[at:])
			if err != nil {
				return 0, err
			}
			at += m
		}
		*texts = append(*texts, string(text))
		_, err := c.in.Discard(2)
		return n, err
	case kind == '$':
		_, err := c.in.Discard(n + 2)
		return n, err
	case kind == '*':
		total := 0
		for range n {
			m, err := c.reply(texts)
			if total += m; err != nil {
				return total, err
			}
		}
		return total, nil
	}
	return 0, fmt.Errorf("a reply of %q", line)
}

// Close implements Client.
func (c *redisClient) Close() error { return c.conn.Close() }

// Benchmark runs Redis' own redis-benchmark, if it is installed: commands in
// a second; 0 where it is not.
func (r Redis) Benchmark(ctx context.Context, args ...string) (float64, error) {
	program, err := exec.LookPath("redis-benchmark")
	if err != nil || r.TLS != nil {
		return 0, nil //nolint:nilerr // the figure is left out
	}
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return 0, err
	}
	all := []string{"-h", host, "-p", port, "--dbnum", strconv.Itoa(r.DB), "--csv"}
	if r.Password != "" {
		all = append(all, "-a", r.Password)
	}
	if r.Username != "" {
		all = append(all, "--user", r.Username)
	}
	out, err := exec.CommandContext(ctx, program, append(all, args...)...).Output() //nolint:gosec // the user's own
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := lines[len(lines)-1]
	// "name","rps","avg_latency_ms",…; the name is the command, which may have commas of its own.
	_, after, ok := strings.Cut(last, `","`)
	if !ok {
		return 0, fmt.Errorf("redis-benchmark printed %q", last)
	}
	text, _, _ := strings.Cut(after, `"`)
	return strconv.ParseFloat(text, 64)
}
