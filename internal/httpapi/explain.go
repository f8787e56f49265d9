package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/selection"
)

// TextField is a key or a request field and its value, as people write it.
type TextField struct{ Name, Value string }

// explain answers GET /v1/explain?features=view:feature&key=value: where the values
// of one entity come from. What is not the request's own is a key or a request field.
func (s *Server) explain(c echo.Context) error {
	query, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		return bad(api.CodeBadRequest, "", "the query cannot be read: %v", err)
	}
	var req selection.Request
	var entity []TextField
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		values := query[name]
		if name != api.FieldFeatures && len(values) > 1 {
			return bad(api.CodeDuplicateField, name, "%q is there twice", name)
		}
		switch name {
		case api.FieldService:
			req.Service = values[0]
		case api.FieldFeatures:
			for _, v := range values {
				req.Features = append(req.Features, strings.Split(v, ",")...)
			}
		case api.FieldFullNames:
			if values[0] != "true" && values[0] != "false" {
				return bad(api.CodeWrongType, name, "%s=%s: want true or false", name, values[0])
			}
			req.FullNames = values[0] == "true"
		default:
			entity = append(entity, TextField{name, values[0]})
		}
	}
	if (req.Service == "") == (len(req.Features) == 0) {
		return bad(api.CodeMissingField, api.FieldService, "the query names neither a \"service\" nor \"features\", or both: one of them, please")
	}
	st := s.borrow()
	defer s.giveBack(st)
	if err := s.enter(st); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), s.cfg.RequestTimeout)
	defer cancel()
	x, err := s.engine.Explain(ctx, req, entity)
	if err != nil {
		return within(ctx, err)
	}
	return c.JSON(http.StatusOK, x)
}
