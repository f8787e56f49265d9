package history

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"

	// The object stores that a registry may lie in, by the schemes of their URLs.
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/memblob"   // mem://
	_ "gocloud.dev/blob/s3blob"    // s3://
)

// Open opens the history at a URL: file:///folder, s3://bucket/folder,
// gs://bucket/folder, azblob://container/folder or mem://. Query parameters are
// those of gocloud.dev's openers (region, endpoint, …). A file URL must be
// absolute; its folder is made by the first Append. Every mem:// is a history of
// its own that ends with the process.
//
// Nothing is read yet: a store that cannot be reached is an error of the first use.
func Open(ctx context.Context, rawURL string) (*Repository, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if u.Scheme == "file" {
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return nil, fmt.Errorf("registry %s: a file URL must be absolute, such as file:///var/lib/forebay/registry", rawURL)
		}
		return newRepository(rawURL, folder{root: filepath.FromSlash(u.Path)}), nil
	}
	at := u.Redacted()
	below := strings.Trim(u.Path, "/")
	u.Path, u.RawPath = "", ""
	b, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", at, err)
	}
	if below != "" {
		b = blob.PrefixedBucket(b, below+"/")
	}
	return newRepository(at, bucket{b}), nil
}

// New makes a history in an open bucket, which it takes over. Its conditional
// writes (IfNotExist) must be atomic, which those of fileblob are not.
func New(b *blob.Bucket) *Repository { return newRepository("in a bucket", bucket{b}) }
