package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// feastState is the memory of one lookup by Feast's protocol.
type feastState struct {
	given   []feastKey
	columns []*feature.Column // memory of given
	outputs []int
	views   []string
}

// feastKey is a column of entities that is echoed in the answer, before the features.
type feastKey struct {
	name   string
	column *feature.Column // as it was read; nil where it is no key of the request
	values [][]byte        // as they are written, where column is nil
}

// getOnlineFeatures answers POST /get-online-features as Feast's server does
// (docs/http.md says where the values differ).
func (s *Server) getOnlineFeatures(c echo.Context) error {
	st := s.borrow()
	defer s.giveBack(st)
	var err error
	var body []byte
	if st.body, body, err = s.feastBody(c, st.body); err != nil {
		return err
	}
	r, err := parseFeastRequest(body)
	if err != nil {
		return err
	}
	ctx, end := s.deadlines.begin(c.Request().Context())
	defer end()
	revision, err := s.engine.Revision(ctx)
	if err != nil {
		return within(ctx, err)
	}
	project := revision.Project
	sel, err := feastSelection(&r, project)
	if err != nil {
		return err
	}
	plan, err := s.engine.Plan(ctx, sel)
	if err != nil {
		return within(ctx, feastSelectionError(err, project.Name, &r))
	}
	rows, err := st.feastEntities(&r, plan.Selection(), project, s.cfg.MaxEntities)
	if err != nil {
		return err
	}
	found, err := s.find(ctx, st, plan, rows)
	if err != nil {
		return err
	}
	markStale(c, found)
	st.feast.order(plan.Selection(), r.full)
	answer := s.borrowAnswer()
	defer s.giveBackAnswer(answer)
	answer.bytes = st.appendFeast(answer.bytes[:0], plan, found, rows, &r)
	if found.Free != nil {
		found.Free()
	}
	s.leave(st)
	read, err := s.enterLarge(int64(len(answer.bytes)))
	if err != nil {
		return err
	}
	defer read()
	return writeJSON(c, answer.bytes)
}

// feastSelection checks feature references in the order in which Feast does, so
// that of two mistakes the same one is answered.
func feastSelection(r *feastRequest, p *registry.Project) (selection.Request, error) {
	if r.service != "" {
		return selection.Request{Service: r.service, FullNames: r.full}, nil
	}
	if len(r.features) == 0 {
		return selection.Request{}, feastBad("No features specified for retrieval")
	}
	refs := make([]string, len(r.features))
	names := make([]string, len(r.features))
	pinned := false
	for i, ref := range r.features {
		view, name, ok := strings.Cut(ref, ":")
		if !ok {
			return selection.Request{}, feastBad(fmt.Sprintf("Invalid feature reference '%s'. Expected format: '<feature_view>:<feature>' or '<feature_view>@<version>:<feature>'", ref))
		}
		base, version := feastView(view)
		if version == "" {
			view = base
		}
		pinned = pinned || version != ""
		refs[i], names[i] = view+":"+name, name
	}
	for _, ref := range refs {
		view, _, _ := strings.Cut(ref, ":")
		base, version := feastView(view)
		if p.View(base) == nil && (version != "" || p.OnDemandView(base) == nil) {
			return selection.Request{}, feastNotFound("FeatureViewNotFoundException", "Feature view %s does not exist in project %s", view, p.Name)
		}
	}
	unique := names
	if r.full {
		unique = r.features
	}
	for i := range unique {
		if !pinned && slices.Contains(unique[:i], unique[i]) { // else a generation may be unknown, which comes first
			return selection.Request{}, feastCollision(unique[i], r.full)
		}
	}
	for i, ref := range refs {
		if _, err := registry.ParseRef(ref); err != nil || names[i] == "" {
			view, name, _ := strings.Cut(ref, ":")
			return selection.Request{}, feastBad(fmt.Sprintf("'Feature %s not found in projection %s'", name, view))
		}
	}
	if r.full && !pinned {
		refs = distinct(refs) // view@latest:feature and view:feature are one column
	}
	return selection.Request{Features: refs, FullNames: r.full}, nil
}

// feastVersion is what makes a version of what follows an @: v and a number to Feast, a
// number alone (a generation) to us.
var feastVersion = regexp.MustCompile(`^(?:[vV][0-9]+|[1-9][0-9]{0,17})$`)

// feastView takes the view's part of a reference apart. An @ with nothing after it, or
// with "latest", means no version; with anything that is none it belongs to the name.
func feastView(ref string) (view, version string) {
	view, version, _ = strings.Cut(ref, "@")
	switch {
	case strings.EqualFold(version, "latest"):
		return view, ""
	case version == "" || feastVersion.MatchString(version):
		return view, version
	}
	return ref, ""
}

// distinct leaves each text its first place.
func distinct(texts []string) []string {
	var out []string
	for _, text := range texts {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

func feastNotFound(class, format string, args ...any) *feastError {
	return &feastError{status: http.StatusNotFound, class: class, message: fmt.Sprintf(format, args...)}
}

func feastCollision(name string, full bool) *feastError {
	e := &feastError{status: http.StatusBadRequest, class: "FeatureNameCollisionError"}
	if full {
		e.message = fmt.Sprintf("Duplicate features named %s found.\nTo resolve this collision, please ensure that the feature views or their own features have different names.", strings.Replace(name, ":", "__", 1))
	} else {
		e.message = fmt.Sprintf("Duplicate features named %s found.\nTo resolve this collision, either use the full feature name by setting 'full_feature_names=True', or ensure that the features in question have different names.", name)
	}
	return e
}

// feastSelectionError is a mistake in a request as Feast answers it.
func feastSelectionError(err error, project string, r *feastRequest) error {
	var e *selection.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case selection.UnknownService:
		return feastNotFound("FeatureServiceNotFoundException", "Feature service %s does not exist in project %s", r.service, project)
	case selection.UnknownView:
		return feastNotFound("FeatureViewNotFoundException", "Feature view %s does not exist in project %s", e.Name, project)
	case selection.NameClash:
		return feastCollision(e.Name, r.full)
	}
	return feastBad(e.Msg)
}

// order puts the outputs into the order of Feast's answer: view by view, in the
// order in which the request first needs them (an on-demand view needs its
// inputs), then the on-demand features.
func (f *feastState) order(sel *selection.Selection, full bool) {
	f.outputs, f.views = f.outputs[:0], f.views[:0]
	var roles []int
	touch := func(role int) {
		if !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	for _, out := range sel.Outputs {
		if out.From.Step < 0 && out.From.Role >= 0 {
			touch(out.From.Role)
			continue
		}
		if out.From.Step < 0 {
			continue
		}
		for _, input := range sel.Steps[out.From.Step].View.Inputs {
			for i, role := range sel.Roles {
				if role.View.View.Name == input {
					touch(i)
				}
			}
		}
	}
	for _, role := range roles {
		name := sel.Roles[role].View.View.Name
		for j, out := range sel.Outputs {
			if out.From.Step < 0 && out.From.Role == role {
				f.outputs = append(f.outputs, j)
				if alias, ok := feastAlias(out, full); ok {
					name = alias
				}
			}
		}
		if !slices.Contains(f.views, name) {
			f.views = append(f.views, name)
		}
	}
	for j, out := range sel.Outputs {
		if out.From.Step >= 0 || out.From.Role < 0 {
			f.outputs = append(f.outputs, j)
		}
	}
}

// feastAlias is the name that a service gives the view of an output, as `import feast`
// writes it: a prefix that ends in __.
func feastAlias(out selection.Output, full bool) (alias string, ok bool) {
	rest := out.Feature
	if full {
		rest = out.View + "__" + out.Feature
	}
	return strings.CutSuffix(strings.TrimSuffix(out.Name, rest), "__")
}

// feastName is what an output is called: with full names an alias stands in the place of
// the view's name, not before it.
func feastName(out selection.Output, full bool) string {
	if alias, ok := feastAlias(out, full); ok && full {
		return alias + "__" + out.Feature
	}
	return out.Name
}

// appendFeast appends the answer, entity columns first:
//
//	{"results":[{"values":[…],"statuses":[…],"event_timestamps":[…]}],
//	 "metadata":{"feature_names":["…"],"feature_view_metadata":[{"name":"…"}]}}
func (st *lookupState) appendFeast(dst []byte, plan Plan, found *Found, rows int, r *feastRequest) []byte {
	outputs := plan.Selection().Outputs
	dst = append(dst, `{"results":[`...)
	for i, key := range st.feast.given {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendFeastGiven(dst, key, rows)
	}
	for i, j := range st.feast.outputs {
		if i+len(st.feast.given) > 0 {
			dst = append(dst, ',')
		}
		dst = appendFeastOutput(dst, found, j, rows, outputs[j].From.Step < 0)
	}
	dst = append(dst, `],"metadata":{"feature_names":[`...)
	for i, key := range st.feast.given {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = feature.AppendStringJSON(dst, key.name)
	}
	for i, j := range st.feast.outputs {
		if i+len(st.feast.given) > 0 {
			dst = append(dst, ',')
		}
		dst = feature.AppendStringJSON(dst, feastName(outputs[j], r.full))
	}
	dst = append(dst, ']')
	if r.metadata && len(st.feast.views) > 0 {
		dst = append(dst, `,"feature_view_metadata":[`...)
		for i, name := range st.feast.views {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"name":`...)
			dst = feature.AppendStringJSON(dst, name)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, "}}"...)
}

// appendFeastGiven appends an entity column: what was given, present, with no event time.
func appendFeastGiven(dst []byte, key feastKey, rows int) []byte {
	dst = append(dst, `{"values":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		if key.column != nil {
			dst = appendFeastValue(dst, key.column.Value(i))
		} else {
			dst = appendFeastEcho(dst, key.values[i])
		}
	}
	dst = append(dst, `],"statuses":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		status := feature.Present
		if key.column != nil && key.column.IsNull(i) || key.column == nil && missing(key.values[i]) {
			status = feature.NullValue
		}
		dst = append(dst, statusJSON[status]...)
	}
	dst = append(dst, `],"event_timestamps":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, feastEpoch...)
	}
	return append(dst, "]}"...)
}

func appendFeastOutput(dst []byte, found *Found, j, rows int, timed bool) []byte {
	dst = append(dst, `{"values":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendFeastValue(dst, found.Columns[j].Value(i))
	}
	dst = append(dst, `],"statuses":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, statusJSON[found.Statuses[j][i]]...)
	}
	dst = append(dst, `],"event_timestamps":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		t := found.EventTimes[j][i]
		if !timed || found.Statuses[j][i] == feature.NotFound {
			t = NoTime // an on-demand feature has no row, and so no time, of its own
		}
		dst = appendFeastTime(dst, t)
	}
	return append(dst, "]}"...)
}
