package kafka

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A user and a password in the URL go into the request's header, and into no message.
func TestSchemaRegistryCredentials(t *testing.T) {
	var status int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "ana" || password != "p:w" {
			t.Errorf("asked as %q, %q, %v", user, password, ok)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`["AVRO"]`))
	}))
	defer server.Close()
	reg, err := NewSchemaRegistry(strings.Replace(server.URL, "http://", "http://ana:p%3Aw@", 1))
	if err != nil {
		t.Fatal(err)
	}
	status = http.StatusOK
	if err := reg.ping(t.Context(), 5*time.Second); err != nil {
		t.Error(err)
	}
	status = http.StatusForbidden
	if err := reg.ping(t.Context(), 5*time.Second); err == nil || strings.Contains(err.Error(), "p:w") || strings.Contains(err.Error(), "ana") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("refused: %v", err)
	}
}
