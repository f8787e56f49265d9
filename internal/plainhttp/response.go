package plainhttp

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// response is the http.ResponseWriter of one request after the other of a connection.
type response struct {
	c        *conn
	header   http.Header
	status   int   // 0 until WriteHeader
	declared int64 // the handler's Content-Length; -1 where it has said none
	sent     int64 // of a body with a declared length
	body     []byte
	err      error // of writing
	last     bool  // the connection ends with this answer

	head []byte
	both [2][]byte
	vec  net.Buffers
}

var _ http.ResponseWriter = (*response)(nil)

func (w *response) reset() {
	clear(w.header)
	w.status, w.declared, w.sent, w.err, w.last = 0, -1, 0, nil, false
	if cap(w.body) > maxKept {
		w.body = nil
	}
	w.body, w.head = w.body[:0], w.head[:0]
}

// maxKept bounds the memory of an idle connection.
const maxKept = 64 << 10

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || status < 200 { // no answers ahead of the answer
		return
	}
	w.status = status
	if v := w.header["Content-Length"]; len(v) == 1 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			w.declared = n
		}
	}
}

// inOne is how long a body may be to be copied behind its head; a longer one goes beside it.
const inOne = 16 << 10

// Write implements http.ResponseWriter. A body whose length was declared goes out at once.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.declared < 0:
		w.body = append(w.body, p...)
		return len(p), nil
	case w.sent+int64(len(p)) > w.declared:
		return 0, http.ErrContentLength
	}
	if w.sent == 0 {
		w.appendHead(w.declared)
	}
	w.sent += int64(len(p))
	w.send(p)
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// send writes what there is of the head, and p.
func (w *response) send(p []byte) {
	w.c.writing()
	switch {
	case len(w.head) == 0:
		_, w.err = w.c.net.Write(p)
	case len(p) <= inOne:
		w.head = append(w.head, p...)
		_, w.err = w.c.net.Write(w.head)
	default:
		w.both = [2][]byte{w.head, p}
		w.vec = w.both[:]
		_, w.err = w.vec.WriteTo(w.c.net)
		w.both = [2][]byte{}
	}
	w.head = w.head[:0]
}

// finish sends what is left, and says whether the connection can go on.
func (w *response) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.declared < 0:
		w.appendHead(int64(len(w.body)))
		w.send(w.body)
	case w.declared == 0:
		w.appendHead(0)
		w.send(nil)
	case w.sent < w.declared:
		w.err = io.ErrShortWrite // half an answer: the client must see that
	}
	return w.err == nil && !w.last
}

func (w *response) appendHead(length int64) {
	b := append(w.head[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(w.status)...)
	b = append(b, "\r\nDate: "...)
	b = append(b, date()...)
	for name, values := range w.header {
		if name == "Content-Length" || name == "Connection" || name == "Date" {
			continue
		}
		for _, v := range values {
			b = append(b, "\r\n"...)
			b = append(b, name...)
			b = append(b, ": "...)
			from := len(b)
			b = append(b, v...)
			for i := from; i < len(b); i++ {
				if b[i] < ' ' && b[i] != '\t' { // nobody ends a line but us
					b[i] = ' '
				}
			}
		}
	}
	if w.status != http.StatusNoContent {
		b = append(b, "\r\nContent-Length: "...)
		b = strconv.AppendInt(b, length, 10)
	}
	if w.last = w.last || w.c.f.draining.Load(); w.last {
		b = append(b, "\r\nConnection: close"...)
	}
	w.head = append(b, "\r\n\r\n"...)
}

// SetReadDeadline is for http.ResponseController: of the rest of the body. What has arrived
// with the head needs none.
func (w *response) SetReadDeadline(t time.Time) error {
	if w.c.bodyArrived() {
		return nil
	}
	w.c.readDeadline = t
	return w.c.net.SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController. It takes effect when something is written, and
// may be a second early: setting one costs more than much of the rest.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.c.wantWrite = t
	return nil
}

// second is the header Date of a second.
type second struct {
	unix int64
	text string
}

var lastSecond atomic.Pointer[second]

func date() string {
	now := time.Now()
	if s := lastSecond.Load(); s != nil && s.unix == now.Unix() {
		return s.text
	}
	s := &second{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastSecond.Store(s)
	return s.text
}
