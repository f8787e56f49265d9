package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// answerTimeout bounds the wait for one answer: a server that hangs ends a run
// with errors, not never.
const answerTimeout = 30 * time.Second

// Request is one HTTP request, as its bytes. Make many before a run and let
// connections take them in turn: making them then costs nothing.
type Request []byte

// NewRequest makes a POST with a body of JSON. header has further lines, each
// "Name: value".
func NewRequest(host, path string, body []byte, header ...string) Request {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, host, len(body))
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// httpClient is a connection that is kept alive. It does as little as can be
// done, for the server's machine is mostly the client's too: it reads the
// status and the length of an answer, and throws the rest away.
type httpClient struct {
	conn     net.Conn
	in       *bufio.Reader
	requests []Request
}

// DialHTTP connects to a server, host:port. Client.Do sends request n modulo
// their number; an answer other than 200 is an error.
func DialHTTP(ctx context.Context, addr string, requests []Request) (Client, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &httpClient{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), requests: requests}, nil
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return conn, nil
}

// Do implements Client.
func (c *httpClient) Do(n int64) (int, error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(c.requests[n%int64(len(c.requests))]); err != nil {
		return 0, err
	}
	return c.answer()
}

// answer reads an answer with a Content-Length: its bytes.
func (c *httpClient) answer() (int, error) {
	status, err := c.line()
	if err != nil {
		return 0, err
	}
	code := string(status)
	if len(code) < 12 || code[:5] != "HTTP/" {
		return 0, fmt.Errorf("not an answer of HTTP: %q", code)
	}
	length := -1
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		if len(line) == 0 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, fmt.Errorf("Content-Length: %w", err)
			}
		}
	}
	if length < 0 {
		return 0, errors.New("an answer without a Content-Length")
	}
	if code[9:12] == strconv.Itoa(http.StatusOK) {
		return c.in.Discard(length)
	}
	body, _ := c.in.Peek(min(length, 512))
	err = fmt.Errorf("%s: %s", code, body)
	if _, cut := c.in.Discard(length); cut != nil {
		err = errors.Join(err, cut)
	}
	return 0, err
}

// line is the next line without its end; it is valid until the next read.
func (c *httpClient) line() ([]byte, error) { return readLine(c.in) }

func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// Close implements Client.
func (c *httpClient) Close() error { return c.conn.Close() }
