package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry/feature"
)

// feastPush answers POST /push: Feast's data frame, column by column. Whatever
// its "to" says, rows go to both stores: one definition has one history.
func (s *Server) feastPush(c echo.Context) error {
	st := s.borrow()
	defer s.giveBack(st)
	var err error
	if st.body, err = s.feastBody(c, st.body); err != nil {
		return err
	}
	source, rows, err := parseFeastPush(st.body, s.cfg.MaxEntities)
	if err != nil {
		return err
	}
	if _, err := s.pushRows(c, st, source, rows); err != nil {
		var notFound *NotFoundError
		if errors.As(err, &notFound) && notFound.Code == api.CodeUnknownSource {
			return &feastError{status: http.StatusUnprocessableEntity, class: "PushSourceNotFoundException", message: fmt.Sprintf("Unable to find push source '%s'.", source)}
		}
		return err
	}
	return c.NoContent(http.StatusOK)
}

// parseFeastPush turns the columns of a data frame into rows of JSON.
func parseFeastPush(body []byte, limit int) (source string, rows [][]byte, err error) {
	var s jsonscan.Scanner
	fields := map[string][]byte{}
	err = s.Reset(body)
	if err == nil {
		if err = s.OpenObject(); errors.Is(err, jsonscan.ErrKind) {
			return "", nil, invalid("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", body)
		}
	}
	for err == nil {
		key, more, kerr := s.Key()
		if err = kerr; err != nil || !more {
			break
		}
		fields[string(key)], err = s.Skip()
	}
	if err == nil {
		err = s.End()
	}
	var syntax *jsonscan.SyntaxError
	if errors.As(err, &syntax) {
		return "", nil, invalid("json_invalid", "JSON decode error: "+syntax.Msg, []byte("{}"), syntax.Offset)
	}
	if err != nil {
		return "", nil, err
	}
	for _, name := range []string{"push_source_name", "df"} {
		if _, ok := fields[name]; !ok {
			return "", nil, invalid("missing", "Field required", body, name)
		}
	}
	if source, err = feastText(fields["push_source_name"], "push_source_name"); err != nil {
		return "", nil, err
	}
	if to, ok := fields["to"]; ok {
		name, err := feastText(to, "to")
		if err != nil {
			return "", nil, err
		}
		if name != "online" && name != "offline" && name != "online_and_offline" {
			return "", nil, feastBad(fmt.Sprintf("%s is not a supported push format. Please specify one of these ['online', 'offline', 'online_and_offline'].", name))
		}
	}
	rows, err = frameRows(fields["df"], limit)
	return source, rows, err
}

// frameRows turns {"column":[…]} into one JSON object a row.
func frameRows(frame []byte, limit int) (rows [][]byte, err error) {
	var s jsonscan.Scanner
	if err := s.Reset(frame); err != nil {
		return nil, err
	}
	if err := s.OpenObject(); err != nil {
		return nil, invalid("dict_type", "Input should be a valid dictionary", frame, "df")
	}
	first := true
	for {
		key, more, err := s.Key()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		name := string(key)
		values, err := s.Skip()
		if err != nil {
			return nil, err
		}
		elements, ok := feastList(values)
		switch {
		case !ok:
			return nil, feastBad(fmt.Sprintf("df: column %s is not a list of values", name))
		case first && len(elements) > limit:
			return nil, feastBad(fmt.Sprintf("df: more than %d rows in one push", limit))
		case first:
			rows = make([][]byte, len(elements))
		case len(elements) != len(rows):
			return nil, feastBad("All arrays must be of the same length")
		}
		for i, e := range elements {
			if first {
				rows[i] = append(rows[i], '{')
			} else {
				rows[i] = append(rows[i], ',')
			}
			rows[i] = feature.AppendStringJSON(rows[i], name)
			rows[i] = append(append(rows[i], ':'), e...)
		}
		first = false
	}
	for i := range rows {
		rows[i] = append(rows[i], '}')
	}
	return rows, nil
}
