package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/jsonscan"
)

// feastError is an error as Feast's server answers it: a list of details (422,
// from the validation of the body), or a string, in which an error that Feast's
// client raises again is JSON once more.
type feastError struct {
	status  int
	class   string // of Python, in feast.errors; "" for none
	message string
	details []feastDetail
}

func (e *feastError) Error() string { return e.message }

// feastDetail is one mistake in the body, as pydantic writes it.
type feastDetail struct {
	Type  string          `json:"type"`
	Loc   []any           `json:"loc"` // strings and numbers
	Msg   string          `json:"msg"`
	Input json.RawMessage `json:"input"`
}

// feastClass is the body of an error that the client raises as an exception of its own.
type feastClass struct {
	Module  string `json:"module"`
	Class   string `json:"class"`
	Message string `json:"message"`
}

// feastAnswer is the answer of the routes that Feast's clients call.
func feastAnswer(f *failure) (int, any) {
	var e *feastError
	switch {
	case !errors.As(f.cause, &e):
		return f.status, f.wire.Message
	case e.details != nil:
		return e.status, struct {
			Detail []feastDetail `json:"detail"`
		}{e.details}
	case e.class != "":
		text, err := json.Marshal(feastClass{"feast.errors", e.class, e.message})
		if err != nil {
			return e.status, e.message
		}
		return e.status, string(text)
	}
	return e.status, e.message
}

// feastDetailAnswer is how FastAPI answers for paths and methods that it does not have.
func feastDetailAnswer(f *failure) (int, any) {
	return f.status, struct {
		api.ErrorBody
		Detail string `json:"detail"`
	}{api.ErrorBody{Error: f.wire}, http.StatusText(f.status)}
}

func feastBad(message string) *feastError {
	return &feastError{status: http.StatusBadRequest, message: message}
}

// maxEcho is how much of a wrong input is sent back.
const maxEcho = 1 << 10

// invalid is a mistake in the body's shape.
func invalid(kind, msg string, input []byte, loc ...any) *feastError {
	if len(input) == 0 || len(input) > maxEcho || !json.Valid(input) {
		input = []byte("null")
	}
	return &feastError{
		status: http.StatusUnprocessableEntity, message: msg,
		details: []feastDetail{{Type: kind, Loc: append([]any{"body"}, loc...), Msg: msg, Input: input}},
	}
}

// feastBody reads the body of a Feast request as FastAPI does: it must be JSON by its Content-Type.
func (s *Server) feastBody(c echo.Context, buf []byte) ([]byte, error) {
	body, err := readBody(c, buf, s.cfg.MaxBody, s.cfg.BodyTimeout)
	if err != nil {
		return body, err
	}
	if len(body) == 0 {
		return body, invalid("missing", "Field required", nil)
	}
	t := mediaType(c.Request().Header.Get("Content-Type"))
	if t != api.TypeJSON && !(strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")) {
		text, merr := json.Marshal(string(body[:min(len(body), maxEcho)]))
		if merr != nil {
			text = nil
		}
		return body, invalid("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", text)
	}
	return body, nil
}

// feastRequest is the body of POST /get-online-features.
type feastRequest struct {
	service  string
	features []string
	entities []feastColumn
	full     bool
	metadata bool
}

// feastColumn is one member of "entities": an array of values, as it is written.
type feastColumn struct {
	name   string
	values []byte
}

// gives reports whether entities have a column of a name.
func (r *feastRequest) gives(name string) bool {
	return slices.ContainsFunc(r.entities, func(in feastColumn) bool { return in.name == name })
}

// parseFeastRequest reads what pydantic would: unknown fields are ignored, of a
// field that is there twice the last counts.
func parseFeastRequest(body []byte) (r feastRequest, err error) {
	var s jsonscan.Scanner
	err = s.Reset(body)
	if err == nil {
		err = r.read(&s, body)
	}
	var syntax *jsonscan.SyntaxError
	if errors.As(err, &syntax) {
		return r, invalid("json_invalid", "JSON decode error: "+syntax.Msg, []byte("{}"), syntax.Offset)
	}
	return r, err
}

func (r *feastRequest) read(s *jsonscan.Scanner, body []byte) error {
	k, err := s.Peek()
	if err != nil {
		return err
	}
	if k != jsonscan.Object {
		input, err := s.Skip()
		if err == nil {
			err = s.End()
		}
		if err != nil {
			return err
		}
		return invalid("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", input)
	}
	if err := s.OpenObject(); err != nil {
		return err
	}
	fields := map[string][]byte{}
	for {
		key, more, err := s.Key()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if fields[string(key)], err = s.Skip(); err != nil {
			return err
		}
	}
	if err := s.End(); err != nil {
		return err
	}
	return r.fields(fields, body)
}

func (r *feastRequest) fields(fields map[string][]byte, body []byte) error {
	entities, ok := fields["entities"]
	if !ok {
		return invalid("missing", "Field required", body, "entities")
	}
	if err := r.readEntities(entities); err != nil {
		return err
	}
	if raw, ok := fields["feature_service"]; ok && string(raw) != "null" {
		text, err := feastText(raw, "feature_service")
		if err != nil {
			return err
		}
		r.service = text
	}
	if raw, ok := fields["features"]; ok {
		elements, ok := feastList(raw)
		if !ok {
			return invalid("list_type", "Input should be a valid list", raw, "features")
		}
		for i, e := range elements {
			text, err := feastText(e, "features", i)
			if err != nil {
				return err
			}
			r.features = append(r.features, text)
		}
	}
	for name, to := range map[string]*bool{"full_feature_names": &r.full, "include_feature_view_version_metadata": &r.metadata} {
		if raw, ok := fields[name]; ok {
			on, err := feastBool(raw, name)
			if err != nil {
				return err
			}
			*to = on
		}
	}
	return nil
}

func (r *feastRequest) readEntities(raw []byte) error {
	var s jsonscan.Scanner
	if err := s.Reset(raw); err != nil {
		return err
	}
	if err := s.OpenObject(); err != nil {
		return invalid("dict_type", "Input should be a valid dictionary", raw, "entities")
	}
	for {
		key, more, err := s.Key()
		if err != nil || !more {
			return err
		}
		name := string(key)
		values, err := s.Skip()
		if err != nil {
			return err
		}
		if values[0] != '[' {
			return invalid("list_type", "Input should be a valid list", values, "entities", name)
		}
		at := len(r.entities)
		for i := range r.entities { // a name that is there twice keeps its first place, and its last values
			if r.entities[i].name == name {
				at = i
			}
		}
		if at == len(r.entities) {
			r.entities = append(r.entities, feastColumn{})
		}
		r.entities[at] = feastColumn{name, values}
	}
}

// feastList takes an array apart; it is valid JSON.
func feastList(raw []byte) (elements [][]byte, ok bool) {
	var s jsonscan.Scanner
	if s.Reset(raw) != nil || s.OpenArray() != nil {
		return nil, false
	}
	for {
		more, err := s.More()
		if err != nil || !more {
			return elements, err == nil
		}
		e, err := s.Skip()
		if err != nil {
			return nil, false
		}
		elements = append(elements, e)
	}
}

func feastText(raw []byte, loc ...any) (string, error) {
	if raw[0] != '"' {
		return "", invalid("string_type", "Input should be a valid string", raw, loc...)
	}
	var s jsonscan.Scanner
	if err := s.Reset(raw); err != nil {
		return "", err
	}
	b, err := s.Text()
	return string(b), err
}

// feastBool reads a bool as pydantic's lax mode does.
func feastBool(raw []byte, name string) (bool, error) {
	text := string(raw)
	if raw[0] == '"' {
		unquoted, err := feastText(raw, name)
		if err != nil {
			return false, err
		}
		text = strings.ToLower(unquoted)
	} else if f, err := strconv.ParseFloat(text, 64); err == nil && (f == 0 || f == 1) {
		return f == 1, nil
	}
	switch text {
	case "true", "yes", "on", "t", "y", "1":
		return true, nil
	case "false", "no", "off", "f", "n", "0":
		return false, nil
	}
	if strings.ContainsAny(text[:min(1, len(text))], "[{n") && raw[0] != '"' {
		return false, invalid("bool_type", "Input should be a valid boolean", raw, name)
	}
	return false, invalid("bool_parsing", "Input should be a valid boolean, unable to interpret input", raw, name)
}
