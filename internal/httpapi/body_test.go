package httpapi

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/api"
)

// TestCompressedBodies are refused by every route that takes a body, with the header that says why.
func TestCompressedBodies(t *testing.T) {
	e := newCompatEngine(t)
	e.push = func(_ string, rows [][]byte) (api.PushAnswer, error) { return api.PushAnswer{Accepted: len(rows)}, nil }
	s := newTestServer(t, Config{}, e)
	for path, body := range map[string]string{
		"/v1/features": lookup1001, "/v1/push/customers": `{"rows":[]}`, "/v1/datasets?service=driver_svc": "a,b\n",
		"/get-online-features": `{"feature_service":"driver_svc","entities":{"driver_id":[1001]}}`, "/push": `{"push_source_name":"customers","df":{}}`,
	} {
		media := api.TypeJSON
		if strings.HasPrefix(path, "/v1/datasets") {
			media = api.TypeCSV
		}
		for _, coding := range []string{"gzip", "GZIP", "br", "gzip, identity"} {
			res := ask(t, s.Handler(), http.MethodPost, path, body, "Content-Type", media, "Content-Encoding", coding)
			if res.Code != http.StatusUnsupportedMediaType || !strings.Contains(res.Body.String(), "Content-Encoding is") || res.Header().Get("Accept-Encoding") != "identity" {
				t.Errorf("%s with %s: %d %s %v", path, coding, res.Code, res.Body, res.Header())
			}
		}
		if strings.HasPrefix(path, "/v1/datasets") {
			continue // there is nothing to build here
		}
		if res := ask(t, s.Handler(), http.MethodPost, path, body, "Content-Type", media, "Content-Encoding", "Identity"); res.Code != http.StatusOK {
			t.Errorf("%s with identity: %d %s", path, res.Code, res.Body)
		}
	}
}

// TestTooLargeForClientsThatSendFirst has clients that read the answer only after they have sent a body that is
// far too large: they get the answer.
func TestTooLargeForClientsThatSendFirst(t *testing.T) {
	server := httptest.NewServer(newTestServer(t, Config{MaxBody: 1000}, newCompatEngine(t)).Handler())
	defer server.Close()
	const size = 16 << 20 // more than the buffers between them hold
	body := strings.Repeat(" ", size)
	for name, head := range map[string]string{
		"with a length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body),
		"in chunks":     fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body),
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "POST /v1/features HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"+head); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") || !strings.Contains(string(answer), "too_large") {
			t.Errorf("%s: got %.200s, %v", name, answer, err)
		}
	}
}
