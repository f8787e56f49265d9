package history

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeS3 answers as much of S3's protocol as a history needs, conditional writes included.
type fakeS3 struct {
	t       *testing.T
	mu      sync.Mutex
	objects map[string][]byte // by path: /bucket/key
}

type s3List struct {
	XMLName  xml.Name `xml:"ListBucketResult"`
	Contents []s3Object
}

type s3Object struct {
	Key          string
	LastModified time.Time
	Size         int
	ETag         string
}

func (s *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(status int, code string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code></Error>")
	}
	content, there := s.objects[r.URL.Path]
	switch {
	case r.Method == http.MethodPut:
		if r.Header.Get("If-None-Match") != "*" {
			s.t.Errorf("%s is written without a condition", r.URL.Path)
		}
		if there {
			fail(http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.t.Error(err)
		}
		s.objects[r.URL.Path] = body
	case r.URL.Query().Get("list-type") == "2":
		var list s3List
		for path := range s.objects {
			key := strings.TrimPrefix(path, strings.TrimSuffix(r.URL.Path, "/")+"/")
			if strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
				list.Contents = append(list.Contents, s3Object{key, time.Now().UTC(), len(s.objects[path]), `"0"`})
			}
		}
		if err := xml.NewEncoder(w).Encode(list); err != nil {
			s.t.Error(err)
		}
	case there:
		_, _ = w.Write(content)
	default:
		fail(http.StatusNotFound, "NoSuchKey")
	}
}

// openS3 opens a history in a fake S3, through the real client.
func openS3(t *testing.T) (*Repository, *fakeS3) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "key")
	t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required") // no chunked bodies
	fake := &fakeS3{t: t, objects: map[string][]byte{}}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	q := url.Values{"region": {"eu-west-1"}, "endpoint": {server.URL}, "use_path_style": {"true"}, "disable_https": {"true"}}
	return open(t, "s3://bucket/team/registry?"+q.Encode()), fake
}

// TestS3ObjectNames sees where the objects of a history below a folder lie.
func TestS3ObjectNames(t *testing.T) {
	r, fake := openS3(t)
	mustAppend(t, r, revision(""))
	if len(fake.objects) != 1 || fake.objects["/bucket/team/registry/revisions/0000000001.json"] == nil {
		t.Errorf("objects are %v", fake.objects)
	}
}
