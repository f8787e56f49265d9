package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/forebay/forebay/online"
)

// What goes over the socket: HTTP/1.1, POST /2/<call>, both bodies a row of
// unsigned varints (numbers, lengths) and bytes. Nothing of it is kept. The two
// ends may be of different releases, so the path begins with the protocol's version.
//
//	call        request                           answer
//	get         n × key                           n × (0, or 1 + length and record)
//	write       mode, n × (key, record, ttl in ms) applied, stale
//	resumes     view, generation                  n × (input, position)
//	setresumes  n × (view, generation, input, position)
//	live                                          n × (view, generation)
//	setlive     view, generation
//	drop        view, generation
//	usage       view, generation                  records, bytes
//	ping
//
// A key is a view, a generation and an entity key; a text is its length and its bytes.
const (
	wirePath      = "/2/"
	projectHeader = "Forebay-Project"
	errorHeader   = "Forebay-Error" // the code of a call that failed; its message is the body
)

// maxBody bounds a request; the client keeps well below it but for single records.
const maxBody = 256 << 20

var (
	errWire    = errors.New("malformed message")
	errProject = errors.New("another project")
)

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendView(dst []byte, view string, generation int) []byte {
	return binary.AppendUvarint(appendText(dst, view), uint64(generation))
}

func appendKey(dst []byte, k online.Key) []byte {
	return appendBytes(appendView(dst, k.View, k.Generation), k.Entity)
}

// message is a body being read. After the first thing that is not there it
// yields zeros, and end reports it.
type message struct {
	rest []byte
	bad  bool
	view string // the last one, of which there are many in a row
}

func (m *message) fail() { m.rest, m.bad = nil, true }

func (m *message) number() uint64 {
	n, used := binary.Uvarint(m.rest)
	if used <= 0 {
		m.fail()
		return 0
	}
	m.rest = m.rest[used:]
	return n
}

// int reads a number that fits into an int64.
func (m *message) int() int {
	n := m.number()
	if n > math.MaxInt64 {
		m.fail()
		return 0
	}
	return int(n)
}

// count reads how many things follow, of at least a byte each.
func (m *message) count() int {
	n := m.number()
	if n > uint64(len(m.rest)) {
		m.fail()
		return 0
	}
	return int(n)
}

// bytes reads bytes; they refer to the message.
func (m *message) bytes() []byte {
	n := m.number()
	if n > uint64(len(m.rest)) {
		m.fail()
		return nil
	}
	b := m.rest[:n:n]
	m.rest = m.rest[n:]
	return b
}

// ttl reads a number of milliseconds that a record may be kept.
func (m *message) ttl() time.Duration {
	n := m.number()
	if n > uint64(online.MaxTTL/time.Millisecond) {
		m.fail()
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

func (m *message) text() string { return string(m.bytes()) }

func (m *message) generation() (string, int) {
	if b := m.bytes(); string(b) != m.view {
		m.view = string(b)
	}
	g := m.int()
	if g > math.MaxInt32 {
		m.fail()
	}
	return m.view, g
}

func (m *message) key() (k online.Key) {
	k.View, k.Generation = m.generation()
	k.Entity = m.bytes()
	return k
}

// record reads a record, or nil.
func (m *message) record() []byte {
	n := m.number()
	if n == 0 {
		return nil
	}
	if n--; n > uint64(len(m.rest)) {
		m.fail()
		return nil
	}
	b := m.rest[:n:n]
	m.rest = m.rest[n:]
	return b
}

// end reports whether the message was read whole, and nothing is left of it.
func (m *message) end() error {
	if m.bad || len(m.rest) > 0 {
		return fmt.Errorf("%w: cut off, or %d bytes too many", errWire, len(m.rest))
	}
	return nil
}

// codes are the errors that the two ends tell apart, the most precise first.
// Everything else is ErrUnavailable there, ErrClosed too: the owner's store is
// closed then, not the caller's.
var codes = []struct {
	code string
	err  error
}{
	{"deadline", context.DeadlineExceeded},
	{"canceled", context.Canceled},
	{"full", online.ErrFull},
	{"record", online.ErrRecord},
	{"request", errWire},
	{"project", errProject},
	{"unavailable", online.ErrUnavailable},
}

// codeOf is the code of an error of a Store.
func codeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "unavailable"
}

// answerError is what a call failed with on the other side.
type answerError struct {
	msg  string
	errs []error
}

func (e *answerError) Error() string   { return e.msg }
func (e *answerError) Unwrap() []error { return e.errs }

// errorOf makes an error from its code and message.
func errorOf(code, msg string) error {
	e := &answerError{msg: msg}
	for _, c := range codes {
		if c.code == code {
			e.errs = append(e.errs, c.err)
		}
	}
	switch code {
	case "record", "request", "project", "canceled":
	default:
		e.errs = append(e.errs, online.ErrUnavailable)
	}
	return e
}
