package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
)

// feastError is an error as Feast's server answers it: a list of details (422,
// from the validation of the body), or a string, in which an error that Feast's
// client raises again is JSON once more.
type feastError struct {
	status  int
	class   string // of Python, in feast.errors; "" for none
	message string
	plain   bool // the message is FastAPI's own {"detail":"…"}
	details feastDetails
}

func (e *feastError) Error() string { return e.message }

// feastDetail is one mistake in the body, as pydantic writes it.
type feastDetail struct {
	Type  string          `json:"type"`
	Loc   []any           `json:"loc"` // strings and numbers
	Msg   string          `json:"msg"`
	Input json.RawMessage `json:"input"`
	Ctx   *feastContext   `json:"ctx,omitempty"`
}

type feastContext struct {
	Error string `json:"error"`
}

// feastDetails are the mistakes in a body, in the order of its fields' declaration.
type feastDetails []feastDetail

const (
	// maxEcho is how much of a wrong input is sent back.
	maxEcho = 1 << 10
	// maxDetails is how many mistakes are told: an answer should not be far longer than its request.
	maxDetails = 100
)

func (d *feastDetails) add(kind, msg string, input []byte, loc ...any) {
	if len(*d) == maxDetails {
		return
	}
	if len(input) == 0 || len(input) > maxEcho || !json.Valid(input) {
		input = []byte("null")
	}
	*d = append(*d, feastDetail{Type: kind, Loc: append([]any{"body"}, loc...), Msg: msg, Input: input})
}

// err is nil where there are no mistakes.
func (d feastDetails) err() error {
	if len(d) == 0 {
		return nil
	}
	return &feastError{status: http.StatusUnprocessableEntity, message: d[0].Msg, details: d}
}

// invalid is the one mistake of a body whose shape is wrong.
func invalid(kind, msg string, input []byte, loc ...any) *feastError {
	var d feastDetails
	d.add(kind, msg, input, loc...)
	return &feastError{status: http.StatusUnprocessableEntity, message: msg, details: d}
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
			Detail feastDetails `json:"detail"`
		}{e.details}
	case e.plain:
		return e.status, struct {
			Detail string `json:"detail"`
		}{e.message}
	case e.class != "":
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(feastClass{"feast.errors", e.class, e.message}); err != nil {
			return e.status, e.message
		}
		return e.status, strings.TrimSuffix(text.String(), "\n")
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

// feastBody reads the body of a Feast request as FastAPI does: it must be JSON by its
// Content-Type, whatever parameters that has. buf is the memory to read into, and in is
// the part of it with the JSON.
func (s *Server) feastBody(c echo.Context, buf []byte) (body, in []byte, err error) {
	body, err = readBody(c, buf, s.cfg.MaxBody, s.cfg.BodyTimeout)
	if err != nil {
		return body, nil, err
	}
	if len(body) == 0 {
		return body, nil, invalid("missing", "Field required", nil)
	}
	t, _, _ := strings.Cut(c.Request().Header.Get("Content-Type"), ";")
	t = strings.ToLower(strings.TrimSpace(t))
	if t != api.TypeJSON && !(strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")) {
		text, merr := json.Marshal(string(body[:min(len(body), maxEcho)]))
		if merr != nil {
			text = nil
		}
		return body, nil, notADictionary(text)
	}
	in, err = feastJSON(body)
	return body, in, err
}

func notADictionary(input []byte) *feastError {
	return invalid("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", input)
}

// feastForm is a body that is an object, and the mistakes in it: as with pydantic, all of
// them are told at once.
type feastForm struct {
	body     []byte
	members  []feastMember
	mistakes feastDetails
}

// feastMember is a member of an object: its value as it is written.
type feastMember struct {
	name  string
	value []byte
}

func newFeastForm(body []byte) (*feastForm, error) {
	members, ok, err := feastMembers(body)
	if err == nil && !ok {
		err = notADictionary(bytes.TrimSpace(body))
	}
	return &feastForm{body: body, members: members}, err
}

// feastMembers takes an object apart. A name that is there twice keeps its first place
// and has its last value; ok is false where there is no object.
func feastMembers(raw []byte) (members []feastMember, ok bool, err error) {
	s, err := feastScanner(raw)
	if err != nil {
		return nil, false, err
	}
	if err := s.OpenObject(); err != nil {
		return nil, false, nil //nolint:nilerr // it is another kind of value: feastJSON has read it
	}
	at := map[string]int{}
	for {
		key, more, err := s.Key()
		if err != nil || !more {
			return members, true, err
		}
		i, twice := at[string(key)]
		if !twice {
			i = len(members)
			at[string(key)] = i
			members = append(members, feastMember{name: string(key)})
		}
		if members[i].value, err = s.Skip(); err != nil {
			return nil, true, err
		}
	}
}

// field is the value of a member of the body, nil where there is none.
func (f *feastForm) field(name string) []byte {
	for _, m := range f.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// required is a field without which there is a mistake.
func (f *feastForm) required(name string) []byte {
	raw := f.field(name)
	if raw == nil {
		f.mistakes.add("missing", "Field required", f.body, name)
	}
	return raw
}

func (f *feastForm) text(raw []byte, loc ...any) string {
	if raw[0] != '"' {
		f.mistakes.add("string_type", "Input should be a valid string", raw, loc...)
		return ""
	}
	s, err := feastScanner(raw)
	if err != nil {
		return ""
	}
	text, err := s.Text()
	if err != nil { // half of a surrogate pair, which is no text
		f.mistakes.add("string_unicode", "Input should be a valid string, unable to parse raw data as a unicode string", nil, loc...)
	}
	return string(text)
}

// dictionary is an object's members.
func (f *feastForm) dictionary(raw []byte, name string) ([]feastMember, error) {
	members, ok, err := feastMembers(raw)
	if err == nil && !ok {
		f.mistakes.add("dict_type", "Input should be a valid dictionary", raw, name)
	}
	return members, err
}

// list is an array's elements.
func (f *feastForm) list(raw []byte, loc ...any) [][]byte {
	elements, ok := feastList(raw)
	if !ok {
		f.mistakes.add("list_type", "Input should be a valid list", raw, loc...)
	}
	return elements
}

// boolean reads a bool as pydantic's lax mode does; none is false.
func (f *feastForm) boolean(name string) bool {
	raw := f.field(name)
	if raw == nil {
		return false
	}
	text := string(raw)
	if raw[0] == '"' {
		text = strings.ToLower(f.text(raw, name))
	} else if n, err := strconv.ParseFloat(text, 64); err == nil {
		switch {
		case n == 0 || n == 1:
			return n == 1
		case n != math.Trunc(n) || n < -1<<63 || n >= 1<<63:
			f.mistakes.add("bool_type", "Input should be a valid boolean", raw, name)
			return false
		}
	}
	switch text {
	case "true", "yes", "on", "t", "y", "1":
		return true
	case "false", "no", "off", "f", "n", "0":
		return false
	}
	if strings.IndexByte("[{nNI", raw[0]) >= 0 {
		f.mistakes.add("bool_type", "Input should be a valid boolean", raw, name)
	} else {
		f.mistakes.add("bool_parsing", "Input should be a valid boolean, unable to interpret input", raw, name)
	}
	return false
}

// feastList takes an array apart; ok is false where there is none.
func feastList(raw []byte) (elements [][]byte, ok bool) {
	s, err := feastScanner(raw)
	if err != nil || s.OpenArray() != nil {
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

// feastRequest is the body of POST /get-online-features.
type feastRequest struct {
	service  string
	features []string
	entities []feastMember // their values are arrays
	full     bool
	metadata bool
}

// gives reports whether entities have a column of a name.
func (r *feastRequest) gives(name string) bool {
	return slices.ContainsFunc(r.entities, func(in feastMember) bool { return in.name == name })
}

// parseFeastRequest reads what pydantic would: fields that are not known are ignored.
func parseFeastRequest(body []byte) (r feastRequest, err error) {
	f, err := newFeastForm(body)
	if err != nil {
		return r, err
	}
	if raw := f.required("entities"); raw != nil {
		if r.entities, err = f.dictionary(raw, "entities"); err != nil {
			return r, err
		}
		for _, in := range r.entities {
			if in.value[0] != '[' {
				f.mistakes.add("list_type", "Input should be a valid list", in.value, "entities", in.name)
			}
		}
	}
	if raw := f.field("feature_service"); raw != nil && string(raw) != "null" {
		r.service = f.text(raw, "feature_service")
	}
	if raw := f.field("features"); raw != nil {
		for i, e := range f.list(raw, "features") {
			r.features = append(r.features, f.text(e, "features", i))
		}
	}
	r.full = f.boolean("full_feature_names")
	r.metadata = f.boolean("include_feature_view_version_metadata")
	return r, f.mistakes.err()
}
