package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// feastState is the memory of one lookup by Feast's protocol.
type feastState struct {
	given   []feastKey
	outputs []int
	views   []string
}

// feastKey is a column of entities that is echoed in the answer, before the features.
type feastKey struct {
	name   string
	column int    // of the lookup; -1 where no view of the request has such a key
	values []byte // the JSON array, where column is -1
}

// getOnlineFeatures answers POST /get-online-features as Feast's server does
// (docs/http.md says where the values differ).
func (s *Server) getOnlineFeatures(c echo.Context) error {
	st := s.borrow()
	defer s.giveBack(st)
	var err error
	if st.body, err = s.feastBody(c, st.body); err != nil {
		return err
	}
	r, err := parseFeastRequest(st.body)
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
	st.feast.order(plan.Selection())
	answer := s.borrowAnswer()
	defer s.giveBackAnswer(answer)
	answer.bytes = st.appendFeast(answer.bytes[:0], plan, found, rows, r.metadata)
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
	for i, ref := range r.features {
		view, name, ok := strings.Cut(ref, ":")
		if !ok {
			return selection.Request{}, feastBad(fmt.Sprintf("Invalid feature reference '%s'. Expected format: '<feature_view>:<feature>' or '<feature_view>@<version>:<feature>'", ref))
		}
		if base, version, ok := strings.Cut(view, "@"); ok && (version == "" || strings.EqualFold(version, "latest")) {
			view = base
		}
		refs[i], names[i] = view+":"+name, name
	}
	for _, ref := range refs {
		view, _, _ := strings.Cut(ref, ":")
		base, _, _ := strings.Cut(view, "@")
		if p.View(base) == nil && p.OnDemandView(base) == nil {
			return selection.Request{}, feastNotFound("FeatureViewNotFoundException", "Feature view %s does not exist in project %s", view, p.Name)
		}
	}
	unique := names
	if r.full {
		unique = refs
	}
	for i := range unique {
		if slices.Contains(unique[:i], unique[i]) {
			return selection.Request{}, feastCollision(unique[i], r.full)
		}
	}
	for i, ref := range refs {
		if _, err := registry.ParseRef(ref); err != nil || names[i] == "" {
			view, name, _ := strings.Cut(ref, ":")
			return selection.Request{}, feastBad(fmt.Sprintf("'Feature %s not found in projection %s'", name, view))
		}
	}
	return selection.Request{Features: refs, FullNames: r.full}, nil
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

// feastEntities reads the columns of entities into the lookup's, and notes which
// of them are echoed.
func (st *lookupState) feastEntities(r *feastRequest, sel *selection.Selection, p *registry.Project, limit int) (rows int, err error) {
	if len(r.entities) == 0 {
		return 0, feastBad("no entities: give each join key a list of values")
	}
	e, f := &st.entities, &st.feast
	e.reset(sel)
	f.given = f.given[:0]
	needed := feastRequestFields(sel)
	rows = -1
	for _, in := range r.entities {
		key := f.recognise(in, r, e, sel, p)
		var n int
		switch {
		case key >= 0:
			n, err = e.readFeast(key, in, limit)
		default:
			n, err = countElements(in.values)
		}
		if err != nil {
			return 0, err
		}
		if rows >= 0 && n != rows {
			return 0, feastBad("All entity rows must have the same columns.")
		}
		rows = n
	}
	if rows > limit {
		return 0, feastBad(fmt.Sprintf("more than %d entities in one request", limit))
	}
	var missing []string
	for _, name := range needed {
		if !r.gives(name) {
			missing = append(missing, "'"+name+"'")
		}
	}
	if missing != nil {
		return 0, feastNotFound("RequestDataNotFoundInEntityRowsException",
			"Required request data source features [%s] not found in the entity rows, but required by feature views", strings.Join(missing, ", "))
	}
	return rows, e.fillFeast(sel, rows)
}

// recognise finds the lookup's column that an entity column is meant for, -1 for
// none, and notes it for the answer if it is a join key.
func (f *feastState) recognise(in feastColumn, r *feastRequest, e *entityColumns, sel *selection.Selection, p *registry.Project) int {
	name := in.name
	column := e.find([]byte(name))
	if column >= e.keys {
		return column // a request field
	}
	if column < 0 {
		if entity := p.Entity(name); entity != nil && joinKeyEntity(p, name) == nil && len(entity.JoinKeys) == 1 {
			name = entity.JoinKeys[0].Name // the entity's name for its join key, as Feast still allows
			column = e.find([]byte(name))
		}
	}
	if column < 0 {
		if joinKeyEntity(p, name) == nil {
			return -1 // nothing that is known: left out of the answer
		}
		column = renamedKey(sel, name)
		if column >= 0 && r.gives(sel.Keys[column].Name) {
			column = -1 // the new name is there as well, and counts
		}
	}
	key := feastKey{name: name, column: column, values: in.values}
	if i := slices.IndexFunc(f.given, func(k feastKey) bool { return k.name == name }); i >= 0 {
		f.given[i] = key
	} else {
		f.given = append(f.given, key)
	}
	return column
}

// joinKeyEntity finds the entity that has a join key of a name.
func joinKeyEntity(p *registry.Project, joinKey string) *registry.Entity {
	for i := range p.Entities {
		if slices.ContainsFunc(p.Entities[i].JoinKeys, func(f feature.Field) bool { return f.Name == joinKey }) {
			return &p.Entities[i]
		}
	}
	return nil
}

// renamedKey finds the one key column of a selection that a join key was renamed
// to; Feast takes the join key's own name for it too. -1 if there is none, or more.
func renamedKey(sel *selection.Selection, joinKey string) int {
	column := -1
	for _, role := range sel.Roles {
		for j, f := range role.View.JoinKeys() {
			if f.Name != joinKey {
				continue
			}
			if column >= 0 && column != role.Keys[j] {
				return -1
			}
			column = role.Keys[j]
		}
	}
	return column
}

// feastRequestFields are all request fields of the on-demand views in a
// selection: Feast wants them even where no requested feature reads them.
func feastRequestFields(sel *selection.Selection) []string {
	var names []string
	for _, step := range sel.Steps {
		for _, f := range step.View.Request {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	return names
}

// readFeast reads a JSON array into a column. A column that was read already is
// read again: the later one counts.
func (e *entityColumns) readFeast(column int, in feastColumn, limit int) (rows int, err error) {
	c := e.columns[column]
	c.Reset()
	e.seen[column] = 1
	var s jsonscan.Scanner
	if err := s.Reset(in.values); err != nil {
		return 0, err
	}
	if err := s.OpenArray(); err != nil {
		return 0, err
	}
	for {
		more, err := s.More()
		if err != nil {
			return 0, err
		}
		if !more || rows > limit {
			return rows, nil
		}
		if column < e.keys {
			err = appendFeastKey(&s, c)
		} else {
			err = appendJSON(&s, c)
		}
		if err != nil {
			return 0, feastBad(fmt.Sprintf("%s[%d]: %v", in.name, rows, err))
		}
		rows++
	}
}

// fillFeast completes keys of which a part was given: they identify nothing, and
// are not found. A view of whose key nothing was given is a mistake.
func (e *entityColumns) fillFeast(sel *selection.Selection, rows int) error {
	for _, role := range sel.Roles {
		given := rows > 0 && slices.ContainsFunc(role.Keys, func(k int) bool { return e.seen[k] != 0 })
		if len(role.Keys) > 0 && !given {
			names := make([]string, len(role.Keys))
			for i, k := range role.Keys {
				names[i] = "'" + sel.Keys[k].Name + "'"
			}
			return feastBad(fmt.Sprintf("Missing join key values for keys: [%s], which feature view %s needs", strings.Join(names, ", "), role.View.View.Name))
		}
	}
	for i, c := range e.columns {
		if e.seen[i] == 0 && !e.shared[i] {
			for range rows {
				c.AppendNull()
			}
		}
	}
	return nil
}

func countElements(values []byte) (n int, err error) {
	var s jsonscan.Scanner
	if err := s.Reset(values); err != nil {
		return 0, err
	}
	if err := s.OpenArray(); err != nil {
		return 0, err
	}
	for ; ; n++ {
		more, err := s.More()
		if err != nil || !more {
			return n, err
		}
		if _, err := s.Skip(); err != nil {
			return 0, err
		}
	}
}

// order puts the outputs into the order of Feast's answer: view by view, in the
// order in which the request first needs them (an on-demand view needs its
// inputs), then the on-demand features.
func (f *feastState) order(sel *selection.Selection) {
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
		if name := sel.Roles[role].View.View.Name; !slices.Contains(f.views, name) {
			f.views = append(f.views, name)
		}
		for j, out := range sel.Outputs {
			if out.From.Step < 0 && out.From.Role == role {
				f.outputs = append(f.outputs, j)
			}
		}
	}
	for j, out := range sel.Outputs {
		if out.From.Step >= 0 || out.From.Role < 0 {
			f.outputs = append(f.outputs, j)
		}
	}
}

// appendFeast appends the answer, entity columns first:
//
//	{"results":[{"values":[…],"statuses":[…],"event_timestamps":[…]}],
//	 "metadata":{"feature_names":["…"],"feature_view_metadata":[{"name":"…"}]}}
func (st *lookupState) appendFeast(dst []byte, plan Plan, found *Found, rows int, metadata bool) []byte {
	outputs := plan.Selection().Outputs
	dst = append(dst, `{"results":[`...)
	for i, key := range st.feast.given {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = st.appendFeastKey(dst, key, rows)
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
		dst = feature.AppendStringJSON(dst, outputs[j].Name)
	}
	dst = append(dst, ']')
	if metadata {
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

// appendFeastKey appends an entity column: what was given, present, with no event time.
func (st *lookupState) appendFeastKey(dst []byte, key feastKey, rows int) []byte {
	dst = append(dst, `{"values":`...)
	if key.column < 0 {
		dst = append(dst, key.values...)
	} else {
		dst = append(dst, '[')
		for i := range rows {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendFeastValue(dst, st.entities.columns[key.column].Value(i))
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"statuses":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		status := feature.Present
		if key.column >= 0 && st.entities.columns[key.column].IsNull(i) {
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
