package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/lineage"
)

// kinds are the kinds of definitions, as paths name them in the documentation, and how
// to list them.
var kinds = []struct {
	kind lineage.Kind
	path string
	list func(p *registry.Project) []named
}{
	{lineage.Entity, "entities", func(p *registry.Project) []named {
		return list(p.Entities, func(d registry.Entity) string { return d.Name })
	}},
	{lineage.Source, "sources", func(p *registry.Project) []named {
		return list(p.Sources, func(d registry.Source) string { return d.Name })
	}},
	{lineage.View, "feature-views", func(p *registry.Project) []named {
		return list(p.Views, func(d registry.FeatureView) string { return d.Name })
	}},
	{lineage.OnDemandView, "on-demand-feature-views", func(p *registry.Project) []named {
		return list(p.OnDemand, func(d registry.OnDemandView) string { return d.Name })
	}},
	{lineage.Service, "feature-services", func(p *registry.Project) []named {
		return list(p.Services, func(d registry.Service) string { return d.Name })
	}},
}

// named is a definition with its name.
type named struct {
	name       string
	definition any
}

func list[T any](definitions []T, name func(T) string) []named {
	all := make([]named, len(definitions))
	for i, d := range definitions {
		all[i] = named{name(d), d}
	}
	return all
}

// definitionsOf finds the definitions that a path asks for.
func (s *Server) definitionsOf(c echo.Context) (r *registry.Revision, kind lineage.Kind, all []named, err error) {
	if r, err = s.engine.Revision(c.Request().Context()); err != nil {
		return nil, "", nil, err
	}
	asked := param(c, "kind")
	kind, _ = lineage.ParseKind(asked)
	var known []string
	for _, k := range kinds {
		if k.kind == kind {
			return r, kind, k.list(r.Project), nil
		}
		known = append(known, k.path)
	}
	return nil, "", nil, failed(http.StatusNotFound, api.CodeUnknownKind, "unknown kind %q: want one of %s%s", asked, strings.Join(known, ", "), hint(asked, known))
}

// definitions answers GET /v1/registry/{kind}.
func (s *Server) definitions(c echo.Context) error {
	r, kind, all, err := s.definitionsOf(c)
	if err != nil {
		return err
	}
	out := api.Definitions{Revision: r.ID, Kind: string(kind), Items: make([]json.RawMessage, len(all))}
	for i, d := range all {
		if out.Items[i], err = json.Marshal(d.definition); err != nil {
			return err
		}
	}
	return c.JSON(http.StatusOK, out)
}

// definition answers GET /v1/registry/{kind}/{name}.
func (s *Server) definition(c echo.Context) error {
	r, kind, all, err := s.definitionsOf(c)
	if err != nil {
		return err
	}
	names := make([]string, len(all))
	for i, d := range all {
		if d.name != param(c, "name") {
			names[i] = d.name
			continue
		}
		out := api.Definition{Revision: r.ID, Kind: string(kind)}
		if out.Definition, err = json.Marshal(d.definition); err != nil {
			return err
		}
		if kind == "FeatureView" {
			out.Generation = r.Generation(d.name)
		}
		return c.JSON(http.StatusOK, out)
	}
	return failed(http.StatusNotFound, api.CodeNotFound, "there is no %s %q%s", kind, param(c, "name"), hint(param(c, "name"), names))
}
