package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// DatasetRequest asks for a training dataset: a spine, joined with features as
// they were at each of its instants.
type DatasetRequest struct {
	// Service names a feature service; leave Features empty then.
	Service string
	// Features are references: "view:feature", "view", "view@3:feature".
	Features []string
	// Spine has the rows to enrich: entity keys, the instant, request fields, and
	// any other columns, which pass through.
	Spine Spine
	// KnownAt hides what was learned later; zero hides nothing.
	KnownAt time.Time
	// Timestamp names the spine's column of the instant; "" is event_timestamp.
	Timestamp string
	// Name is a name for the dataset, beside its ID.
	Name string
	// FullNames calls columns view__feature.
	FullNames bool
	// Pin keeps the snapshots that are read from being expired, so that the dataset can be built again
	// whatever becomes of the tables; a Name does so, too.
	Pin bool
}

// Spine is the rows that a dataset enriches.
type Spine struct {
	media string
	open  func() (io.ReadCloser, error)
}

// ParquetFile is a spine in a Parquet file.
func ParquetFile(path string) Spine { return fileSpine(path, api.TypeParquet) }

// CSVFile is a spine in a CSV file with a header.
func CSVFile(path string) Spine { return fileSpine(path, api.TypeCSV) }

// NDJSONFile is a spine in a file of one JSON object a line.
func NDJSONFile(path string) Spine { return fileSpine(path, api.TypeNDJSON) }

// ArrowStream is a spine as an Arrow IPC stream. It is read once.
func ArrowStream(r io.Reader) Spine {
	return Spine{api.TypeArrow, func() (io.ReadCloser, error) { return io.NopCloser(r), nil }}
}

func fileSpine(path, media string) Spine {
	return Spine{media, func() (io.ReadCloser, error) { return os.Open(path) }}
}

// Dataset is a training dataset that was built. It is kept in a temporary file
// until Close. It is safe for concurrent use.
type Dataset struct {
	id       string
	revision string
	name     string
	rows     int64
	path     string // an Arrow IPC stream
}

// ID is the dataset's ID: equal for equal input, and enough to build it again.
func (d *Dataset) ID() string { return d.id }

// Rows is the number of its rows: that of the spine.
func (d *Dataset) Rows() int64 { return d.rows }

// Revision is the ID of the registry's revision that it was built with.
func (d *Dataset) Revision() string { return d.revision }

// Close removes the temporary file; it may be called more than once.
func (d *Dataset) Close() error {
	if err := os.Remove(d.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sdk: %w", err)
	}
	return nil
}

// Records reads the dataset, the spine's columns first. A record is valid until the
// next is asked for: Retain it to keep it. An error ends the iteration.
func (d *Dataset) Records() iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		err := d.read(func(r *ipc.Reader) (bool, error) {
			for r.Next() {
				if !yield(r.Record(), nil) {
					return false, nil
				}
			}
			return true, r.Err()
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// read opens the dataset for a function; it reports false if it stopped early.
func (d *Dataset) read(f func(*ipc.Reader) (bool, error)) (err error) {
	file, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("sdk: %w", err)
	}
	whole := true
	defer func() {
		if cerr := file.Close(); cerr != nil && err == nil && whole {
			err = fmt.Errorf("sdk: %w", cerr)
		}
	}()
	r, err := ipc.NewReader(file)
	if err != nil {
		return fmt.Errorf("sdk: read the dataset: %w", err)
	}
	defer r.Release()
	if whole, err = f(r); err != nil {
		return fmt.Errorf("sdk: read the dataset: %w", err)
	}
	return nil
}

// BuildDataset joins a spine with features, point in time correctly.
func (c *Client) BuildDataset(ctx context.Context, r DatasetRequest) (d *Dataset, err error) {
	if r.Spine.open == nil {
		return nil, errors.New("sdk: the request has no Spine")
	}
	query, err := r.query()
	if err != nil {
		return nil, err
	}
	spine, err := r.Spine.open()
	if err != nil {
		return nil, fmt.Errorf("sdk: open the spine: %w", err)
	}
	defer spine.Close()
	req, err := c.request(ctx, api.PathDatasets+"?"+query, spine, r.Spine.media)
	if err != nil {
		return nil, err
	}
	if f, ok := spine.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("sdk: open the spine: %w", err)
		}
		if req.ContentLength = info.Size(); req.ContentLength == 0 {
			req.Body = http.NoBody
		}
	}
	return c.dataset(req, r.Name)
}

// Dataset fetches a dataset that was built.
func (c *Client) Dataset(ctx context.Context, id string) (*Dataset, error) {
	if id == "" {
		return nil, errors.New("sdk: the ID of a dataset is empty")
	}
	req, err := c.request(ctx, api.PathDatasets+"/"+url.PathEscape(id)+"/data", nil, "")
	if err != nil {
		return nil, err
	}
	req.Method = http.MethodGet
	return c.dataset(req, "")
}

// dataset asks for a dataset and keeps it.
func (c *Client) dataset(req *http.Request, name string) (*Dataset, error) {
	req.Header.Set("Accept", api.TypeArrow)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("sdk: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errorOf(res)
	}
	d := &Dataset{id: res.Header.Get(api.HeaderDataset), revision: res.Header.Get(api.HeaderRevision), name: name}
	if d.rows, err = strconv.ParseInt(res.Header.Get(api.HeaderDatasetRows), 10, 64); err != nil || d.id == "" {
		return nil, fmt.Errorf("sdk: the answer of %s is no dataset", c.base)
	}
	if err := d.keep(res.Body); err != nil {
		return nil, err
	}
	return d, nil
}

// keep writes the dataset to a temporary file.
func (d *Dataset) keep(body io.Reader) (err error) {
	f, err := os.CreateTemp("", "forebay-dataset-*.arrow")
	if err != nil {
		return fmt.Errorf("sdk: %w", err)
	}
	d.path = f.Name()
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("sdk: receive the dataset: %w", errors.Join(err, d.Close()))
	}
	return nil
}

func (r *DatasetRequest) query() (string, error) {
	q := url.Values{}
	switch {
	case r.Service == "" && len(r.Features) == 0:
		return "", errors.New("sdk: the request names neither a Service nor Features")
	case r.Service != "" && len(r.Features) > 0:
		return "", errors.New("sdk: the request names a Service and Features: one of them, please")
	case r.Service != "":
		q.Set("service", r.Service)
	default:
		q.Set("features", strings.Join(r.Features, ","))
	}
	if !r.KnownAt.IsZero() {
		q.Set("known_at", feature.FormatTimestamp(r.KnownAt.UnixMicro()))
	}
	if r.Timestamp != "" {
		q.Set("timestamp", r.Timestamp)
	}
	if r.Name != "" {
		q.Set("name", r.Name)
	}
	if r.FullNames {
		q.Set("full_names", "true")
	}
	if r.Pin {
		q.Set("pin", "true")
	}
	return q.Encode(), nil
}
