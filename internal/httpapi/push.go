package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/jsonscan"
)

// rejection is the answer to a push of which a row is wrong.
type rejection struct {
	api.ErrorBody
	api.PushAnswer
}

// push answers POST /v1/push/{source}.
func (s *Server) push(c echo.Context) error {
	if err := wantJSON(c.Request()); err != nil {
		return err
	}
	st := s.borrow()
	defer s.giveBack(st)
	var err error
	if st.body, err = readBody(c, st.body, s.cfg.MaxBody, s.cfg.BodyTimeout); err != nil {
		return err
	}
	rows, err := parsePush(st.body, s.cfg.MaxEntities)
	if err != nil {
		return err
	}
	result, err := s.pushRows(c, st, param(c, "source"), rows)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, result)
}

// pushRows hands rows to the engine; rejected ones are an error. Then st has a slot.
func (s *Server) pushRows(c echo.Context, st *lookupState, source string, rows [][]byte) (api.PushAnswer, error) {
	if err := s.enter(st); err != nil {
		return api.PushAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), s.cfg.RequestTimeout)
	defer cancel()
	result, err := s.engine.Push(ctx, source, rows)
	if err != nil {
		return result, within(ctx, err)
	}
	if len(result.Rejected) == 0 {
		result.Rejected = []api.RejectedRow{}
		return result, nil
	}
	first := result.Rejected[0]
	field := fmt.Sprintf("rows[%d]", first.Row)
	if first.Field != "" {
		field += "." + first.Field
	}
	f := bad(api.CodeRejectedRows, field, "%d of %d rows are wrong, and none was written; the first is %s: %s", len(result.Rejected), len(rows), field, first.Message)
	result.Accepted = 0
	f.body = rejection{api.ErrorBody{Error: f.wire}, result}
	return result, f
}

// parsePush takes {"rows":[{…}]} apart into the rows as they are written.
func parsePush(body []byte, limit int) (rows [][]byte, err error) {
	var s jsonscan.Scanner
	if err := s.Reset(body); err != nil {
		return nil, err
	}
	if err := s.OpenObject(); err != nil {
		return nil, place(err, "", "the body")
	}
	found := false
	for {
		key, more, err := s.Key()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		switch {
		case string(key) != api.FieldRows:
			return nil, unknownField("", string(key), []string{api.FieldRows})
		case found:
			return nil, bad(api.CodeDuplicateField, api.FieldRows, `"rows" is there twice`)
		}
		found = true
		if rows, err = parseRows(&s, limit); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, bad(api.CodeMissingField, api.FieldRows, `the body lacks "rows": a list of objects`)
	}
	return rows, s.End()
}

func parseRows(s *jsonscan.Scanner, limit int) (rows [][]byte, err error) {
	if err := s.OpenArray(); err != nil {
		return nil, place(err, api.FieldRows, api.FieldRows)
	}
	for {
		more, err := s.More()
		if err != nil || !more {
			return rows, err
		}
		if len(rows) == limit {
			return nil, failed(http.StatusRequestEntityTooLarge, api.CodeTooLarge, "more than %d rows in one push", limit)
		}
		k, err := s.Peek()
		if err != nil {
			return nil, err
		}
		if k != jsonscan.Object {
			at := fmt.Sprintf("rows[%d]", len(rows))
			return nil, bad(api.CodeWrongType, at, "%s: want an object, got %s", at, k)
		}
		row, err := s.Skip()
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
}
