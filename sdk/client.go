package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/forebay/forebay/internal/api"
)

// Client is a Store behind a server.
type Client struct {
	base    string // without a slash at its end
	http    *http.Client
	apiKey  string
	timeout time.Duration
	retries int
	close   func() error
}

// New makes a client of the server at a URL. It does not talk to it yet.
func New(serverURL string, opts ...Option) (*Client, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if o.environment != "" || o.log != nil {
		return nil, errors.New("sdk: Environment and WithLogger are options of Open: a server has its own")
	}
	u, err := url.Parse(serverURL)
	if err != nil {
		return nil, fmt.Errorf("sdk: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("sdk: %q is not the URL of a server, such as http://localhost:6566", serverURL)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("sdk: the URL of a server has no query and no fragment: %q", serverURL)
	}
	if o.transport == nil {
		o.transport = newTransport()
	}
	return newClient(strings.TrimRight(serverURL, "/"), o), nil
}

func newClient(base string, o options) *Client {
	c := &Client{base: base, http: &http.Client{Transport: o.transport}, apiKey: o.apiKey, timeout: o.timeout, retries: o.retries}
	c.close = func() error {
		c.http.CloseIdleConnections()
		return nil
	}
	return c
}

// Close closes idle connections. The client works on if it is used again.
func (c *Client) Close() error { return c.close() }

// post makes a request whose answer is wanted whole.
func (c *Client) post(ctx context.Context, path string, body []byte, retries int) ([]byte, error) {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	for attempt := 0; ; attempt++ {
		answer, wait, err := c.postOnce(ctx, path, body)
		if err == nil || attempt >= retries || wait < 0 || ctx.Err() != nil {
			return answer, err
		}
		// Wait a little longer each time, and never in step with others.
		backoff := min(10*time.Millisecond<<attempt, time.Second)
		wait = max(wait, backoff/2+rand.N(backoff/2)) //nolint:gosec // not a secret
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return nil, err // what went wrong says more than that time is over
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// postOnce makes one attempt. Where another may help, wait is how long the
// server asked to wait, else it is negative.
func (c *Client) postOnce(ctx context.Context, path string, body []byte) (answer []byte, wait time.Duration, err error) {
	req, err := c.request(ctx, path, bytes.NewReader(body), api.TypeJSON)
	if err != nil {
		return nil, -1, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("sdk: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		wait := time.Duration(-1)
		if res.StatusCode == http.StatusServiceUnavailable {
			wait = retryAfter(res)
		}
		return nil, wait, errorOf(res)
	}
	answer, err = readAll(res)
	if err != nil {
		return nil, 0, fmt.Errorf("sdk: read the answer of %s: %w", path, err)
	}
	return answer, -1, nil
}

// maxRetryAfter bounds what a server may ask a client to wait: it has a deadline of its own.
const maxRetryAfter = 5 * time.Second

func retryAfter(res *http.Response) time.Duration {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

func (c *Client) request(ctx context.Context, path string, body io.Reader, media string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("sdk: %w", err)
	}
	req.Header.Set("Content-Type", media)
	if c.apiKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.apiKey)
	}
	return req, nil
}

// readAll reads a body whose length is mostly known.
func readAll(res *http.Response) ([]byte, error) {
	if res.ContentLength < 0 {
		return io.ReadAll(res.Body)
	}
	body := make([]byte, res.ContentLength)
	_, err := io.ReadFull(res.Body, body)
	return body, err
}
