package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/feature"
)

// extensions name the files that spines and results wait in.
var extensions = map[files.Format]string{
	files.Parquet: "parquet", files.CSV: "csv", files.NDJSON: "ndjson", files.ArrowStream: "arrows", files.ArrowFile: "arrow",
}

const formatsText = api.TypeParquet + ", " + api.TypeArrow + ", " + api.TypeCSV + " or " + api.TypeNDJSON

// buildDataset answers POST /v1/datasets. A dataset's ID is known only once all of
// it is computed, and so is a mistake in its last row: the spine and the result
// wait in temporary files, and the answer is sent whole, with the ID in a header.
func (s *Server) buildDataset(c echo.Context) (err error) {
	req := c.Request()
	if err := wantPlain(c); err != nil {
		return err
	}
	in := files.FormatOfMediaType(req.Header.Get("Content-Type"))
	if in == files.Unknown {
		return failed(http.StatusUnsupportedMediaType, api.CodeUnsupportedMedia, "Content-Type is %q: a spine is %s", req.Header.Get("Content-Type"), formatsText)
	}
	out := accepted(req.Header.Values("Accept"))
	if out == files.Unknown {
		return failed(http.StatusNotAcceptable, api.CodeNotAcceptable, "Accept is %q: a dataset is %s", strings.Join(req.Header.Values("Accept"), ", "), formatsText)
	}
	build, err := parseDatasetQuery(req.URL.RawQuery)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.cfg.TempDir, "forebay-dataset-")
	if err != nil {
		return fmt.Errorf("make a folder for a dataset: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); rerr != nil {
			s.log.ErrorContext(req.Context(), "a dataset's temporary files were not removed", "dir", dir, "error", rerr)
		}
	}()
	build.Spine = DatasetFile{Path: filepath.Join(dir, "spine."+extensions[in]), Format: in}
	build.Out = DatasetFile{Path: filepath.Join(dir, "dataset."+extensions[out]), Format: out}
	rc := http.NewResponseController(c.Response().Writer)
	_ = rc.SetWriteDeadline(time.Time{}) // a join takes the time it takes; in process there is no deadline to set
	if err := s.spool(c, rc, build.Spine.Path); err != nil {
		return err
	}
	dataset, err := s.engine.BuildDataset(req.Context(), build)
	if err != nil {
		return within(req.Context(), err)
	}
	h := c.Response().Header()
	h.Set("Content-Type", out.MediaType())
	h.Set(api.HeaderDataset, dataset.ID)
	h.Set(api.HeaderDatasetRows, strconv.FormatInt(dataset.Rows, 10))
	h.Set(api.HeaderRevision, dataset.Revision)
	return s.sendFile(c, rc, build.Out.Path)
}

// spool writes a request's body to a file. A client that makes no progress for
// BodyTimeout is given up.
func (s *Server) spool(c echo.Context, rc *http.ResponseController, path string) (err error) {
	req := c.Request()
	if req.ContentLength > s.cfg.MaxSpine {
		return &http.MaxBytesError{Limit: s.cfg.MaxSpine}
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("keep a spine: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	body := progress{func() { _ = rc.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)) }, io.LimitReader(req.Body, s.cfg.MaxSpine+1)}
	n, err := io.Copy(onlyWriter{f}, body)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return failed(http.StatusRequestTimeout, api.CodeTimeout, "nothing of the spine came for %s", s.cfg.BodyTimeout)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad(api.CodeBadRequest, "", "the spine ended before its Content-Length")
	case err != nil:
		return fmt.Errorf("keep a spine: %w", err)
	case n > s.cfg.MaxSpine:
		return &http.MaxBytesError{Limit: s.cfg.MaxSpine}
	}
	_ = rc.SetReadDeadline(time.Time{}) // or the join would look as if the client had gone
	return nil
}

// sendFile sends a file as the answer.
func (s *Server) sendFile(c echo.Context, rc *http.ResponseController, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("send a dataset: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("send a dataset: %w", err)
	}
	c.Response().Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	c.Response().WriteHeader(http.StatusOK)
	file := progress{func() { _ = rc.SetWriteDeadline(time.Now().Add(s.cfg.BodyTimeout)) }, f}
	if _, err := io.Copy(onlyWriter{c.Response()}, file); err != nil {
		return fmt.Errorf("send a dataset: %w", err)
	}
	return nil
}

// progress calls before ahead of each read.
type progress struct {
	before func()
	r      io.Reader
}

func (p progress) Read(b []byte) (int, error) {
	p.before()
	return p.r.Read(b)
}

// onlyWriter hides a ReadFrom, which would not read through progress.
type onlyWriter struct{ io.Writer }

// accepted picks the format of an answer: of what Accept names and we have, the
// one with the greatest q, the first of equals. Parquet where everything is fine.
func accepted(accept []string) files.Format {
	best, most := files.Unknown, 0.0
	anything := true
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if media = strings.ToLower(strings.TrimSpace(media)); media == "" {
			continue
		}
		anything = false
		q := 1.0
		if _, value, ok := strings.Cut(strings.ReplaceAll(params, " ", ""), "q="); ok {
			value, _, _ = strings.Cut(value, ";")
			parsed, err := strconv.ParseFloat(value, 64)
			if err != nil {
				continue
			}
			q = parsed
		}
		format := files.FormatOfMediaType(media)
		switch media {
		case "*/*", "application/*":
			format, q = files.Parquet, q/1e6 // what is named goes first
		case "text/*":
			format, q = files.CSV, q/1e6
		}
		if format != files.Unknown && q > most {
			best, most = format, q
		}
	}
	if anything {
		return files.Parquet
	}
	return best
}

var datasetQuery = []string{"service", "features", "known_at", "timestamp", "name", "full_names", "pin"}

// parseDatasetQuery reads what a dataset is asked to be.
func parseDatasetQuery(raw string) (d DatasetRequest, err error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return d, bad(api.CodeBadRequest, "", "the query cannot be read: %v", err)
	}
	names := make([]string, 0, len(q))
	for name := range q {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(datasetQuery, name) {
			return d, unknownField("", name, datasetQuery)
		}
		if len(q[name]) > 1 && name != "features" {
			return d, bad(api.CodeDuplicateField, name, "%q is there twice", name)
		}
	}
	d.Select.Service, d.Timestamp, d.Name = q.Get("service"), q.Get("timestamp"), q.Get("name")
	for _, some := range q["features"] {
		for _, ref := range strings.Split(some, ",") {
			if ref = strings.TrimSpace(ref); ref != "" {
				d.Select.Features = append(d.Select.Features, ref)
			}
		}
	}
	switch {
	case d.Select.Service == "" && d.Select.Features == nil:
		return d, bad(api.CodeMissingField, "service", "the query names neither a service nor features")
	case d.Select.Service != "" && d.Select.Features != nil:
		return d, bad(api.CodeBadRequest, "features", "the query names a service and features: one of them, please")
	}
	if v := q.Get("full_names"); v != "" {
		if d.Select.FullNames, err = strconv.ParseBool(v); err != nil {
			return d, bad(api.CodeWrongType, "full_names", "full_names is %q: want true or false", v)
		}
	}
	if v := q.Get("pin"); v != "" {
		if d.Pin, err = strconv.ParseBool(v); err != nil {
			return d, bad(api.CodeWrongType, "pin", "pin is %q: want true or false", v)
		}
	}
	if v := q.Get("known_at"); v != "" {
		micros, err := feature.ParseTimestamp(v)
		if err != nil {
			return d, bad(api.CodeWrongType, "known_at", "known_at: %v", err)
		}
		d.KnownAt = &micros
	}
	return d, nil
}

// datasets answers GET /v1/datasets.
func (s *Server) datasets(c echo.Context) error {
	all, err := s.engine.Datasets(c.Request().Context())
	if err != nil {
		return err
	}
	if all == nil {
		all = []api.Dataset{}
	}
	return c.JSON(http.StatusOK, api.Datasets{Datasets: all})
}

// dataset answers GET /v1/datasets/{id}.
func (s *Server) dataset(c echo.Context) error {
	d, err := s.engine.Dataset(c.Request().Context(), param(c, "id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, d)
}
