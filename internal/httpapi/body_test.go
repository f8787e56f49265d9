package httpapi

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
)

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
