package httpapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
)

// readBody reads a whole body of at most limit bytes into buf, which it grows. The
// body must arrive within timeout, which observe has set.
func readBody(c echo.Context, buf []byte, limit int64, timeout time.Duration) ([]byte, error) {
	req := c.Request()
	if err := wantPlain(c); err != nil {
		return buf[:0], err
	}
	if req.ContentLength > limit {
		return buf[:0], tooLarge(req, limit)
	}
	if n := min(req.ContentLength, smallMessage); n >= 0 && int64(cap(buf)) <= n {
		buf = make([]byte, 0, n+1) // one more, to meet the end without growing; what is large must come first
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := req.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, tooLarge(req, limit)
		case errors.Is(err, io.EOF):
			// While the request is answered the deadline would look like a client gone.
			_ = http.NewResponseController(c.Response().Writer).SetReadDeadline(time.Time{})
			return buf, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return buf, bad(api.CodeBadRequest, "", "the body ended before its Content-Length")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return buf, failed(http.StatusRequestTimeout, api.CodeTimeout, "the body did not arrive within %s", timeout)
		case err != nil:
			return buf, &failure{status: statusClientGone, wire: api.Error{Code: api.CodeCanceled, Message: "the body was cut off"}, cause: err}
		}
	}
}

// maxRest is how many bytes of a body that is too large are read to no purpose.
const maxRest = 64 << 20

// tooLarge refuses a body. The rest of it is read, within bounds and the deadline of the
// body: many clients send all before they read, and would be told of a broken
// connection in place of the answer.
func tooLarge(req *http.Request, limit int64) error {
	if req.ContentLength <= maxRest && req.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, req.Body, maxRest) // the answer is the same
	}
	return &http.MaxBytesError{Limit: limit}
}

// wantPlain refuses a body that is compressed: what it is once unpacked only its reader would bound.
func wantPlain(c echo.Context) error {
	for _, coding := range c.Request().Header["Content-Encoding"] {
		if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
			c.Response().Header().Set("Accept-Encoding", "identity")
			return failed(http.StatusUnsupportedMediaType, api.CodeUnsupportedMedia, "Content-Encoding is %q: send the body as it is", coding)
		}
	}
	return nil
}

// wantJSON refuses a body that says it is something other than JSON.
func wantJSON(req *http.Request) error {
	if mediaType(req.Header.Get("Content-Type")) == api.TypeJSON || req.Header.Get("Content-Type") == "" {
		return nil
	}
	return failed(http.StatusUnsupportedMediaType, api.CodeUnsupportedMedia, "Content-Type is %q: want application/json", req.Header.Get("Content-Type"))
}

// mediaType is a Content-Type without its parameters, in lower case; "" if it is none.
func mediaType(header string) string {
	if header == api.TypeJSON { // nearly always
		return header
	}
	t, params, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	if cs, ok := params["charset"]; ok && t == api.TypeJSON && !strings.EqualFold(cs, "utf-8") {
		return ""
	}
	return t
}
