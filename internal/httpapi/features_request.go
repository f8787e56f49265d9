package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/nearest"
	"github.com/forebay/forebay/registry/selection"
)

// featuresRequest is the body of POST /v1/features, but for its entities: those
// are typed by the plan, which the rest of the body decides.
type featuresRequest struct {
	sel            selection.Request
	entities       []byte // as they are written
	omitStatuses   bool
	omitTimestamps bool
}

// entitiesReader reads the entities of a body as soon as they are met, if what was read of the
// request says how: then they are gone through once. It says whether it has.
type entitiesReader func(*featuresRequest, *jsonscan.Scanner) (read bool, err error)

// parseFeaturesRequest reads the body of a lookup. The request refers to it. It calls early only
// where entities are still as they were written afterwards.
func parseFeaturesRequest(body []byte, early entitiesReader) (r featuresRequest, err error) {
	var s jsonscan.Scanner
	if err := s.Reset(body); err != nil {
		return r, err
	}
	if err := s.OpenObject(); err != nil {
		return r, place(err, "", "the body")
	}
	if bytes.IndexByte(body, '\\') >= 0 { // the scanner rewrites escaped texts
		early = nil
	}
	var seen [5]bool
	for {
		key, more, err := s.Key()
		if err != nil {
			return r, err
		}
		if !more {
			break
		}
		i := slices.Index(requestFields, string(key))
		if i < 0 {
			return r, unknownField("", string(key), requestFields)
		}
		if seen[i] {
			return r, bad(api.CodeDuplicateField, string(key), "%q is there twice", key)
		}
		seen[i] = true
		if err := r.field(&s, requestFields[i], early); err != nil {
			return r, err
		}
	}
	if err := s.End(); err != nil {
		return r, err
	}
	switch {
	case r.entities == nil:
		return r, bad(api.CodeMissingField, api.FieldEntities, `the body lacks "entities": a list of objects, one per entity`)
	case r.sel.Service == "" && len(r.sel.Features) == 0:
		return r, bad(api.CodeMissingField, api.FieldService, `the body names neither a "service" nor "features"`)
	case r.sel.Service != "" && r.sel.Features != nil:
		return r, bad(api.CodeBadRequest, api.FieldFeatures, `the body names a "service" and "features": one of them, please`)
	}
	return r, nil
}

var requestFields = []string{api.FieldService, api.FieldFeatures, api.FieldEntities, api.FieldOmit, api.FieldFullNames}

func (r *featuresRequest) field(s *jsonscan.Scanner, name string, early entitiesReader) error {
	switch name {
	case api.FieldService:
		b, err := s.Text()
		if err != nil {
			return place(err, name, name)
		}
		if r.sel.Service = string(b); r.sel.Service == "" {
			return bad(api.CodeBadRequest, name, "service is empty")
		}
	case api.FieldFeatures:
		r.sel.Features = []string{}
		return texts(s, name, func(b []byte) error {
			r.sel.Features = append(r.sel.Features, string(b))
			return nil
		})
	case api.FieldOmit:
		return texts(s, name, func(b []byte) error {
			switch string(b) {
			case api.FieldStatuses:
				r.omitStatuses = true
			case api.FieldEventTimestamps:
				r.omitTimestamps = true
			default:
				parts := []string{api.FieldStatuses, api.FieldEventTimestamps}
				return bad(api.CodeBadRequest, name, `omit: %q cannot be omitted: "statuses" and "event_timestamps" can%s`, b, hint(string(b), parts))
			}
			return nil
		})
	case api.FieldFullNames:
		on, err := s.Bool()
		if err != nil {
			return place(err, name, name)
		}
		r.sel.FullNames = on
	case api.FieldEntities:
		k, err := s.Peek()
		if err != nil {
			return err
		}
		if k != jsonscan.Array {
			return bad(api.CodeWrongType, name, "entities: want an array of objects, got %s", k)
		}
		if start := s.Offset(); early != nil && (r.sel.Service != "" || len(r.sel.Features) > 0) {
			read, err := early(r, s)
			if r.entities = s.Since(start); read || err != nil {
				return err
			}
		}
		r.entities, err = s.Skip()
		return err
	}
	return nil
}

// texts reads an array of strings.
func texts(s *jsonscan.Scanner, name string, each func([]byte) error) error {
	if err := s.OpenArray(); err != nil {
		return place(err, name, name)
	}
	for i := 0; ; i++ {
		more, err := s.More()
		if err != nil || !more {
			return err
		}
		b, err := s.Text()
		if err != nil {
			at := name + "[" + strconv.Itoa(i) + "]"
			return place(err, at, at)
		}
		if err := each(b); err != nil {
			return err
		}
	}
}

// place says where a value of the wrong kind is; other errors stay as they are.
func place(err error, field, where string) error {
	if errors.Is(err, jsonscan.ErrKind) {
		return bad(api.CodeWrongType, field, "%s: %v", where, err)
	}
	return err
}

func unknownField(where, name string, known []string) error {
	if len(name) > 100 {
		return bad(api.CodeUnknownField, where, "unknown field %q…", name[:100])
	}
	field := name
	if where != "" {
		field = where + "." + name
	}
	end := hint(name, known)
	if end == "" && len(known) > 0 && len(known) <= 12 {
		end = fmt.Sprintf("; known are %s", quoteAll(known))
	}
	return bad(api.CodeUnknownField, field, "unknown field %q%s", field, end)
}

// hint ends a sentence about a name that does not exist with what was probably meant.
func hint(name string, known []string) string {
	if h := nearest.Hint(name, known); h != "" {
		return "; " + h
	}
	return ""
}

func quoteAll(names []string) string {
	var b []byte
	for i, n := range names {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendQuote(b, n)
	}
	return string(b)
}

// entityColumns are the key and request columns of a lookup, and their memory.
type entityColumns struct {
	columns []*feature.Column // the keys, then the request fields
	keys    int
	own     []*feature.Column // the memory of columns
	shared  []bool            // of columns: a request field that is a key as well, and its column
	seen    []int             // of columns: 1 + the last row that had it
}

// reset prepares columns for a selection, keeping memory.
func (e *entityColumns) reset(sel *selection.Selection) {
	n := len(sel.Keys) + len(sel.Request)
	for len(e.own) < n {
		e.own = append(e.own, &feature.Column{})
	}
	e.columns, e.keys = append(e.columns[:0], e.own[:n]...), len(sel.Keys)
	e.seen = slices.Grow(e.seen[:0], n)[:n]
	e.shared = slices.Grow(e.shared[:0], n)[:n]
	clear(e.seen)
	clear(e.shared)
	for i, f := range sel.Keys {
		e.clear(i, f)
	}
	for i, f := range sel.Request {
		if key := slices.IndexFunc(sel.Keys, func(k feature.Field) bool { return k.Name == f.Name }); key >= 0 {
			e.columns[e.keys+i], e.shared[e.keys+i] = e.columns[key], true
			continue
		}
		e.clear(e.keys+i, f)
	}
}

func (e *entityColumns) clear(i int, f feature.Field) {
	c := e.columns[i]
	c.Reset()
	c.Name, c.Type = f.Name, f.Type
}

// parse reads a JSON array of objects into the columns, one row each, and
// returns how many there are.
func (e *entityColumns) parse(s *jsonscan.Scanner, limit int) (rows int, err error) {
	if err := s.OpenArray(); err != nil {
		return 0, err
	}
	for {
		more, err := s.More()
		if err != nil || !more {
			return rows, err
		}
		if rows == limit {
			return 0, failed(http.StatusRequestEntityTooLarge, api.CodeTooManyEntities, "more than %d entities in one request", limit)
		}
		if err := e.entity(s, rows); err != nil {
			return 0, err
		}
		rows++
	}
}

// entity reads one entity into row i of the columns.
func (e *entityColumns) entity(s *jsonscan.Scanner, i int) error {
	if err := s.OpenObject(); err != nil {
		at := entityPlace(i, "")
		return place(err, at, at)
	}
	// Entities mostly have their members in the same order: next is a guess.
	for next := 0; ; next++ {
		key, more, err := s.Key()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if next >= len(e.columns) || string(key) != e.columns[next].Name {
			next = e.find(key)
		}
		if next < 0 {
			return unknownField(entityPlace(i, ""), string(key), e.names())
		}
		c := e.columns[next]
		if e.seen[next] == i+1 {
			return bad(api.CodeDuplicateField, entityPlace(i, c.Name), "%s is there twice", entityPlace(i, c.Name))
		}
		e.seen[next] = i + 1
		if err := appendJSON(s, c); err != nil {
			var syntax *jsonscan.SyntaxError
			if errors.As(err, &syntax) {
				return err
			}
			return bad(api.CodeWrongType, entityPlace(i, c.Name), "%s: %v", entityPlace(i, c.Name), err)
		}
	}
	for j, c := range e.columns {
		if e.seen[j] != i+1 && !e.shared[j] {
			at := entityPlace(i, c.Name)
			if j < e.keys {
				return bad(api.CodeMissingKey, at, "%s lacks the key %q (%s); where there is none, say null", entityPlace(i, ""), c.Name, c.Type)
			}
			return bad(api.CodeMissingField, at, "%s lacks the request field %q (%s); where there is none, say null", entityPlace(i, ""), c.Name, c.Type)
		}
	}
	return nil
}

func (e *entityColumns) find(key []byte) int {
	for i, c := range e.columns {
		if string(key) == c.Name {
			return i
		}
	}
	return -1
}

func (e *entityColumns) names() []string {
	names := make([]string, len(e.columns))
	for i, c := range e.columns {
		names[i] = c.Name
	}
	return names
}

// entityPlace is the path of a field of an entity: entities[3].origin.
func entityPlace(i int, name string) string {
	at := "entities[" + strconv.Itoa(i) + "]"
	if name != "" {
		at += "." + name
	}
	return at
}

// short cuts text from a request so that a message stays readable.
func short(b []byte) string {
	const limit = 60
	if len(b) <= limit {
		return string(b)
	}
	return string(bytes.ToValidUTF8(b[:limit], nil)) + "…"
}
