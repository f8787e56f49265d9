package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/forebay/forebay/online"
)

var _ online.Store = (*Client)(nil)

// Client works with a folder through the process that has it open.
type Client struct {
	dir     string
	project string
	owner   atomic.Pointer[ownerInfo] // as it was when last looked at
	http    *http.Client

	open   sync.RWMutex // held for reading during calls
	closed bool
}

// Dial reaches the process that has a folder open, if it lets others work
// through it (Serve). The error is an ErrUnavailable if there is no such process,
// and a *HeldError if it does not serve.
func Dial(ctx context.Context, dir, project string) (*Client, error) {
	c := &Client{dir: dir, project: project}
	if err := c.look(); err != nil {
		return nil, err
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// A connection is made rarely, and then often because the owner is another now.
			if err := c.look(); err != nil {
				return nil, err
			}
			network, address, _ := strings.Cut(c.owner.Load().Socket, ":")
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
		MaxIdleConnsPerHost: 32,
		DisableCompression:  true,
	}}
	if err := c.Ping(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// look looks who has the folder open.
func (c *Client) look() error {
	info, err := readOwner(c.dir)
	if err != nil {
		return online.Unavailable(c.dir, "find the process that has it open", err)
	}
	if info.Socket == "" {
		return &HeldError{Dir: c.dir, PID: info.PID, Command: info.Command}
	}
	c.owner.Store(&info)
	return nil
}

func (c *Client) address() string {
	o := c.owner.Load()
	return fmt.Sprintf("%s (through process %d, %s)", c.dir, o.PID, o.Command)
}

// OpenOrDial opens a folder, or works through the process that has it open. A
// *HeldError means that that process lets nobody do so.
func OpenOrDial(ctx context.Context, o Options) (online.Store, error) {
	s, err := Open(o)
	if err == nil {
		return s, nil
	}
	var held *HeldError
	if !errors.As(err, &held) || held.Socket == "" {
		return nil, err
	}
	c, err := Dial(ctx, o.Dir, o.Project)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// call does one call; the answer belongs to the caller.
func (c *Client) call(ctx context.Context, name, doing string, body []byte) (*message, error) {
	c.open.RLock()
	defer c.open.RUnlock()
	if c.closed {
		return nil, fmt.Errorf("%w: %s: %s", online.ErrClosed, c.address(), doing)
	}
	fail := func(err error) (*message, error) {
		if ctx.Err() != nil {
			err = ctx.Err() // what it led to does not matter
		}
		return nil, online.Unavailable(c.address(), doing, err)
	}
	res, err := c.post(ctx, name, body)
	if err == nil && res.StatusCode == http.StatusUnauthorized {
		// Another process has the folder open now, with a token of its own.
		_ = res.Body.Close()
		if err = c.look(); err == nil {
			res, err = c.post(ctx, name, body)
		}
	}
	if err != nil {
		return fail(err)
	}
	defer res.Body.Close()
	var answer []byte
	if n := res.ContentLength; n >= 0 {
		answer = make([]byte, n)
		_, err = io.ReadFull(res.Body, answer)
	} else {
		answer, err = io.ReadAll(res.Body)
	}
	if err != nil {
		return fail(err)
	}
	if res.StatusCode != http.StatusOK {
		msg := strings.TrimSpace(string(answer))
		code := res.Header.Get(errorHeader)
		if code == "" || code == "unavailable" {
			return fail(errors.New(msg))
		}
		return nil, fmt.Errorf("%s: %s: %w", c.address(), doing, errorOf(code, msg))
	}
	return &message{rest: answer}, nil
}

func (c *Client) post(ctx context.Context, name string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://forebay"+wirePath+name, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.owner.Load().Token)
	req.Header.Set(projectHeader, c.project)
	return c.http.Do(req)
}

// do is call, and reads the answer.
func (c *Client) do(ctx context.Context, name, doing string, body []byte, read func(*message)) error {
	m, err := c.call(ctx, name, doing, body)
	if err != nil {
		return err
	}
	if read != nil {
		read(m)
	}
	if err := m.end(); err != nil {
		return online.Unavailable(c.address(), doing, err)
	}
	return nil
}

// Calls of more than this are done in several.
const (
	callRecords = 4096
	callBytes   = 4 << 20
)

// Get implements online.Store.
func (c *Client) Get(ctx context.Context, keys []online.Key, dst [][]byte) error {
	if len(dst) != len(keys) {
		panic(fmt.Sprintf("embedded: Get of %d keys into %d records", len(keys), len(dst)))
	}
	for first := true; first || len(keys) > 0; first = false {
		n, size := 0, 0
		for n < len(keys) && n < callRecords && size < callBytes {
			size += len(keys[n].Entity) + len(keys[n].View)
			n++
		}
		body := binary.AppendUvarint(make([]byte, 0, size+8*n+8), uint64(n))
		for _, k := range keys[:n] {
			body = appendKey(body, k)
		}
		err := c.do(ctx, "get", "get records", body, func(m *message) {
			for i := range dst[:n] {
				dst[i] = m.record()
			}
		})
		if err != nil {
			return err
		}
		keys, dst = keys[n:], dst[n:]
	}
	return nil
}

// Write implements online.Store.
func (c *Client) Write(ctx context.Context, records []online.Record, mode online.WriteMode) (online.WriteResult, error) {
	var res online.WriteResult
	if err := online.CheckRecords(records); err != nil {
		return res, err
	}
	// Records of one key must be compared with each other, not each with what
	// the call before has overwritten.
	if mode == online.Always {
		newest := online.NewestOfEach(records)
		res.Stale = len(records) - len(newest)
		records = newest
	}
	for first := true; first || len(records) > 0; first = false {
		n, size := 0, 0
		for n < len(records) && n < callRecords && size < callBytes {
			size += len(records[n].Value) + len(records[n].Key.Entity) + len(records[n].Key.View)
			n++
		}
		body := binary.AppendUvarint(make([]byte, 0, size+16*n+16), uint64(mode))
		body = binary.AppendUvarint(body, uint64(n))
		for i := range records[:n] {
			body = appendBytes(appendKey(body, records[i].Key), records[i].Value)
			body = binary.AppendUvarint(body, uint64(records[i].Millis()))
		}
		err := c.do(ctx, "write", "write records", body, func(m *message) {
			res.Applied += m.int()
			res.Stale += m.int()
		})
		if err != nil {
			return res, err
		}
		records = records[n:]
	}
	return res, nil
}

// Resumes implements online.Store.
func (c *Client) Resumes(ctx context.Context, view string, generation int) (points []online.Resume, err error) {
	err = c.do(ctx, "resumes", "read resume points", appendView(nil, view, generation), func(m *message) {
		for range m.count() {
			points = append(points, online.Resume{View: view, Generation: generation, Input: m.text(), Position: m.text()})
		}
	})
	return points, err
}

// SetResumes implements online.Store.
func (c *Client) SetResumes(ctx context.Context, points []online.Resume) error {
	body := binary.AppendUvarint(nil, uint64(len(points)))
	for _, p := range points {
		body = appendText(appendText(appendView(body, p.View, p.Generation), p.Input), p.Position)
	}
	return c.do(ctx, "setresumes", "store resume points", body, nil)
}

// Live implements online.Store.
func (c *Client) Live(ctx context.Context) (map[string]int, error) {
	live := map[string]int{}
	err := c.do(ctx, "live", "read live generations", nil, func(m *message) {
		for range m.count() {
			view, generation := m.generation()
			live[view] = generation
		}
	})
	if err != nil {
		return nil, err
	}
	return live, nil
}

// SetLive implements online.Store.
func (c *Client) SetLive(ctx context.Context, view string, generation int) error {
	return c.do(ctx, "setlive", "store a live generation", appendView(nil, view, generation), nil)
}

// Drop implements online.Store.
func (c *Client) Drop(ctx context.Context, view string, generation int) error {
	return c.do(ctx, "drop", "drop a generation", appendView(nil, view, generation), nil)
}

// Usage implements online.Store.
func (c *Client) Usage(ctx context.Context, view string, generation int) (records, size int64, err error) {
	err = c.do(ctx, "usage", "count records", appendView(nil, view, generation), func(m *message) {
		records, size = int64(m.int()), int64(m.int())
	})
	return records, size, err
}

// Ping implements online.Store.
func (c *Client) Ping(ctx context.Context) error { return c.do(ctx, "ping", "ping", nil, nil) }

// Close implements online.Store. The owner of the folder goes on.
func (c *Client) Close() error {
	c.open.Lock()
	defer c.open.Unlock()
	c.closed = true
	c.http.CloseIdleConnections()
	return nil
}
