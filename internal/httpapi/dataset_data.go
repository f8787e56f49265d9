package httpapi

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline/files"
)

// datasetData answers GET /v1/datasets/{id}/data: the dataset's rows, built again as they were. They are compared
// with those of the first build, so the answer is sent once all of it is there.
func (s *Server) datasetData(c echo.Context) (err error) {
	req := c.Request()
	format := accepted(req.Header.Values("Accept"))
	if format == files.Unknown {
		return failed(http.StatusNotAcceptable, api.CodeNotAcceptable, "Accept is %q: a dataset is %s", strings.Join(req.Header.Values("Accept"), ", "), formatsText)
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
	out := DatasetFile{Path: filepath.Join(dir, "dataset."+extensions[format]), Format: format}
	rc := http.NewResponseController(c.Response().Writer)
	_ = rc.SetWriteDeadline(time.Time{}) // a join takes the time it takes; in process there is no deadline to set
	dataset, err := s.engine.RebuildDataset(req.Context(), param(c, "id"), out)
	if err != nil {
		return within(req.Context(), err)
	}
	h := c.Response().Header()
	h.Set("Content-Type", format.MediaType())
	h.Set(api.HeaderDataset, dataset.ID)
	h.Set(api.HeaderDatasetRows, strconv.FormatInt(dataset.Rows, 10))
	h.Set(api.HeaderRevision, dataset.Revision)
	return s.sendFile(c, rc, out.Path)
}
