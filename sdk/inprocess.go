package sdk

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// handlerTransport makes requests to a handler in this process: the same code on
// both sides as over a socket, without one. Answers are streamed.
type handlerTransport struct{ handler http.Handler }

var _ http.RoundTripper = handlerTransport{}

// errCutOff is what reading an answer ends with whose handler gave up half way.
var errCutOff = errors.New("the answer was cut off")

// RoundTrip runs the handler until it has decided on a status, and goes on as the
// answer's body is read. The body must be closed, which waits for the handler.
func (t handlerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	in := req.Clone(ctx)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI, in.RemoteAddr = in.URL.RequestURI(), "in process"
	read, write := io.Pipe()
	w := &pipeWriter{header: http.Header{}, pipe: write, decided: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			err := error(nil)
			if p := recover(); p != nil {
				err = errCutOff
			}
			w.WriteHeader(http.StatusOK)
			_ = write.CloseWithError(err) // never fails
			_ = in.Body.Close()           // as a server does
		}()
		t.handler.ServeHTTP(w, in)
	}()
	stop := func() {
		cancel()
		_ = read.Close() // never fails
		<-done
	}
	select {
	case <-w.decided:
	case <-req.Context().Done():
		stop()
		return nil, req.Context().Err()
	}
	res := &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: &pipeBody{PipeReader: read, stop: sync.OnceFunc(stop)}, ContentLength: -1, Request: req,
	}
	if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
		res.ContentLength = n
	}
	return res, nil
}

// pipeWriter is the handler's end.
type pipeWriter struct {
	header  http.Header
	sent    http.Header // header as it was when the status was decided on
	status  int
	pipe    *io.PipeWriter
	decided chan struct{}
	once    sync.Once
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.decided)
	})
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(b)
}

// pipeBody is the client's end.
type pipeBody struct {
	*io.PipeReader
	stop func()
}

func (b *pipeBody) Close() error {
	b.stop()
	return nil
}
