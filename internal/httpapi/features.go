package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry/feature"
)

// lookupState is the memory of one lookup, kept for the next.
type lookupState struct {
	body     []byte
	entities entityColumns
	feast    feastState
	entered  bool // has a slot
}

// answerBuffer is the memory of an answer. It is borrowed only once there is something to
// answer: where many lookups wait for the store a few of them are in use, and stay in the processor's cache.
type answerBuffer struct {
	bytes []byte
	arrow arrowBatch
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
	s.leave(st)
	if cap(st.body) <= maxKept {
		s.lookup.Put(st)
	}
}

func (s *Server) borrowAnswer() *answerBuffer {
	if a, ok := s.answers.Get().(*answerBuffer); ok {
		a.bytes = a.bytes[:0]
		return a
	}
	return &answerBuffer{}
}

func (s *Server) giveBackAnswer(a *answerBuffer) {
	if cap(a.bytes)+cap(a.arrow.scratch) <= maxKept {
		s.answers.Put(a)
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
	ctx, end := s.deadlines.begin(c.Request().Context())
	defer end()
	plan, rows, r, err := s.readLookup(ctx, st)
	if err != nil {
		return err
	}
	found, err := s.find(ctx, st, plan, rows)
	if err != nil {
		return err
	}
	instant := found.Instant
	markStale(c, found)
	answer := s.borrowAnswer()
	defer s.giveBackAnswer(answer)
	err = answer.append(s.shapes.get(plan), format, found, rows, &r)
	if found.Free != nil {
		found.Free()
	}
	if err != nil {
		return err
	}
	s.leave(st)
	read, err := s.enterLarge(int64(len(answer.bytes)))
	if err != nil {
		return err
	}
	defer read()
	return writeAnswer(c, format, plan.Revision(), instant, answer.bytes)
}

// readLookup reads the body of a lookup, and its entities into st's columns.
func (s *Server) readLookup(ctx context.Context, st *lookupState) (plan Plan, rows int, r featuresRequest, err error) {
	fullNames := false // in plan
	r, err = parseFeaturesRequest(st.body, func(r *featuresRequest, scan *jsonscan.Scanner) (bool, error) {
		var err error
		if plan, err = s.engine.Plan(ctx, r.sel); err != nil {
			plan = nil
			return false, nil //nolint:nilerr // it is looked for again when all of the request is known
		}
		fullNames = r.sel.FullNames
		st.entities.reset(plan.Selection())
		rows, err = st.entities.parse(scan, s.cfg.MaxEntities)
		return true, err
	})
	if err != nil || plan != nil && fullNames == r.sel.FullNames {
		return plan, rows, r, err
	}
	if plan, err = s.engine.Plan(ctx, r.sel); err != nil {
		return nil, 0, r, within(ctx, err)
	}
	var scan jsonscan.Scanner
	if err = scan.Reset(r.entities); err != nil {
		return nil, 0, r, err
	}
	st.entities.reset(plan.Selection())
	rows, err = st.entities.parse(&scan, s.cfg.MaxEntities)
	return plan, rows, r, err
}

// markStale says of an answer of values of earlier that it is one.
func markStale(c echo.Context, f *Found) {
	if f.StaleSince != 0 {
		c.Response().Header()[api.HeaderStaleSince] = []string{feature.FormatTimestamp(f.StaleSince)}
	}
}

// find looks the entities up that st has: their columns are the selection's keys, then its request fields. Then st has a slot.
func (s *Server) find(ctx context.Context, st *lookupState, plan Plan, rows int) (*Found, error) {
	if err := s.enter(st); err != nil {
		return nil, err
	}
	keys, columns := len(plan.Selection().Keys), st.entities.columns
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
