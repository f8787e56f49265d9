package plainhttp

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// head is a request's head, understood.
type head struct {
	target *target
	host   string
	header http.Header
	length int64
}

// target is what is served: "POST /v1/features".
type target struct {
	line   []byte // POST /v1/features HTTP/1.1\r\n
	method string
	url    *url.URL
}

func newTarget(name string) target {
	method, path, _ := strings.Cut(name, " ")
	return target{line: []byte(name + " HTTP/1.1\r\n"), method: method, url: &url.URL{Path: path}}
}

// maxLength is the greatest Content-Length that is plain; the handler has a bound of its own.
const maxLength = 1 << 30

// parse reads a head, which ends with an empty line. It is false for anything that is not
// plain: that is for net/http to judge.
func parse(b []byte, targets []target) (h head, plain bool) {
	for i := range targets {
		if bytes.HasPrefix(b, targets[i].line) {
			h.target = &targets[i]
		}
	}
	if h.target == nil {
		return h, false
	}
	h.header = make(http.Header, 8)
	h.length = -1
	for rest := b[len(h.target.line):]; ; {
		end := bytes.IndexByte(rest, '\n')
		if end < 1 || rest[end-1] != '\r' {
			return h, false
		}
		line := rest[:end-1]
		rest = rest[end+1:]
		if len(line) == 0 {
			return h, len(rest) == 0 && h.host != "" && h.length >= 0
		}
		if !h.field(line) {
			return h, false
		}
	}
}

// field reads one line of a header.
func (h *head) field(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return false
	}
	for _, c := range line[:colon] {
		if !isToken(c) {
			return false
		}
	}
	name := textproto.CanonicalMIMEHeaderKey(string(line[:colon]))
	raw := bytes.Trim(line[colon+1:], " \t")
	for _, c := range raw {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	value := string(raw)
	switch name {
	case "Host":
		if h.host != "" || value == "" || strings.ContainsFunc(value, notHost) {
			return false
		}
		h.host = value
		return true // net/http keeps it apart too
	case "Content-Length":
		if h.length >= 0 || value == "" || len(value) > 10 {
			return false
		}
		h.length = 0
		for i := range len(value) {
			if value[i] < '0' || value[i] > '9' {
				return false
			}
			h.length = h.length*10 + int64(value[i]-'0')
		}
		if h.length > maxLength {
			return false
		}
	case "Connection":
		if !strings.EqualFold(value, "keep-alive") {
			return false
		}
	case "Transfer-Encoding", "Trailer", "Te", "Upgrade", "Http2-Settings", "Expect", "Proxy-Connection", "Keep-Alive":
		return false
	}
	h.header[name] = append(h.header[name], value)
	return true
}

func isToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// notHost is true for what is in no plain host and port.
func notHost(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".:-_[]", r)
}
