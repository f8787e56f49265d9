package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// lookupState is the memory of one lookup, kept for the next.
type lookupState struct {
	body     []byte
	answer   []byte
	entities entityColumns
	feast    feastState
}

// maxKept is how large a buffer may be to be kept for the next request.
const maxKept = 4 << 20

func (s *Server) borrow() *lookupState {
	if st, ok := s.lookup.Get().(*lookupState); ok {
		return st
	}
	return &lookupState{}
}

func (s *Server) giveBack(st *lookupState) {
	if cap(st.body) <= maxKept && cap(st.answer) <= maxKept {
		s.lookup.Put(st)
	}
}

// features answers POST /v1/features.
func (s *Server) features(c echo.Context) error {
	if err := wantJSON(c.Request()); err != nil {
		return err
	}
	format, err := lookupFormatOf(c.Request().Header["Accept"])
	if err != nil {
		return err
	}
	st := s.borrow()
	defer s.giveBack(st)
	if st.body, err = readBody(c, st.body, s.cfg.MaxBody, s.cfg.BodyTimeout); err != nil {
		return err
	}
	r, err := parseFeaturesRequest(st.body)
	if err != nil {
		return err
	}
	ctx, end := s.deadlines.begin(c.Request().Context())
	defer end()
	plan, err := s.engine.Plan(ctx, r.sel)
	if err != nil {
		return within(ctx, err)
	}
	st.entities.reset(plan.Selection())
	rows, err := st.entities.parse(r.entities, s.cfg.MaxEntities)
	if err != nil {
		return err
	}
	found, err := s.find(ctx, plan, st.entities.columns, rows)
	if err != nil {
		return err
	}
	instant := found.Instant
	markStale(c, found)
	st.answer, err = appendAnswer(st.answer[:0], format, plan, found, rows, &r)
	if found.Free != nil {
		found.Free()
	}
	if err != nil {
		return err
	}
	return writeAnswer(c, format, plan.Revision(), instant, st.answer)
}

// markStale says of an answer of values of earlier that it is one.
func markStale(c echo.Context, f *Found) {
	if f.StaleSince != 0 {
		c.Response().Header()[api.HeaderStaleSince] = []string{feature.FormatTimestamp(f.StaleSince)}
	}
}

// find looks entities up; columns are the selection's keys, then its request fields.
func (s *Server) find(ctx context.Context, plan Plan, columns []*feature.Column, rows int) (*Found, error) {
	keys := len(plan.Selection().Keys)
	found, err := plan.Lookup(ctx, columns[:keys], columns[keys:], rows)
	return found, within(ctx, err)
}

// writeJSON sends a whole body of JSON.
func writeJSON(c echo.Context, body []byte) error {
	h := c.Response().Header()
	h[echo.HeaderContentType] = jsonContentType
	h[echo.HeaderContentLength] = []string{strconv.Itoa(len(body))}
	c.Response().WriteHeader(http.StatusOK)
	_, err := c.Response().Write(body)
	return err
}

var jsonContentType = []string{api.TypeJSON}
