package httpapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// feastEntities reads the columns of entities into the lookup's, and notes which
// of them are echoed.
func (st *lookupState) feastEntities(r *feastRequest, sel *selection.Selection, p *registry.Project, limit int) (rows int, err error) {
	if len(r.entities) == 0 {
		return 0, feastBad("no entities: give each join key a list of values")
	}
	var missing []string
	for _, name := range feastRequestFields(sel) {
		if !r.gives(name) {
			missing = append(missing, "'"+name+"'")
		}
	}
	if missing != nil {
		return 0, feastNotFound("RequestDataNotFoundInEntityRowsException",
			"Required request data source features [%s] not found in the entity rows, but required by feature views", strings.Join(missing, ", "))
	}
	e := &st.entities
	e.reset(sel)
	st.feast.given = st.feast.given[:0]
	rows = -1
	for i, in := range r.entities {
		n, err := st.feastEntity(i, r, sel, p, limit)
		if err != nil {
			return 0, err
		}
		if rows >= 0 && n != rows {
			return 0, feastBad(fmt.Sprintf("All entity rows must have the same columns: %s has %d values, others have %d", in.name, n, rows))
		}
		rows = n
	}
	if rows > limit {
		return 0, feastBad(fmt.Sprintf("more than %d entities in one request", limit))
	}
	return rows, e.fillFeast(sel, rows)
}

// feastEntity reads column i of the entities for the columns of the lookup that it is
// meant for, of which a later one may be given more; a join key is noted for the answer.
func (st *lookupState) feastEntity(i int, r *feastRequest, sel *selection.Selection, p *registry.Project, limit int) (rows int, err error) {
	e, f, in := &st.entities, &st.feast, r.entities[i]
	own := fieldNamed(sel.Keys, in.name)
	if field := fieldNamed(sel.Request, in.name); own < 0 && field >= 0 {
		e.seen[e.keys+field] = 1
		return readFeast(e.columns[e.keys+field], in, limit, appendFeastField)
	}
	key := feastKey{name: in.name}
	if own < 0 && joinKeyEntity(p, in.name) == nil {
		entity := p.Entity(in.name)
		if entity == nil || len(entity.JoinKeys) != 1 {
			return countElements(in.value) // nothing that is known: left out of the answer
		}
		key.name = entity.JoinKeys[0].Name // the entity's name for its join key, as Feast still allows
	}
	meant := feastKeys(sel, key.name, r)
	untyped := own < 0 && (len(meant) == 0 || !feastKnows(in.value, sel.Keys[meant[0]].Type))
	if len(f.columns) <= i {
		f.columns = slices.Grow(f.columns, i+1-len(f.columns))[:i+1]
	}
	if f.columns[i] == nil {
		f.columns[i] = &feature.Column{}
	}
	c := f.columns[i]
	c.Reset()
	if len(meant) > 0 {
		c.Type = sel.Keys[meant[0]].Type
	}
	if untyped {
		key.values, _ = feastList(in.value)
		if rows = len(key.values); len(meant) > 0 {
			err = appendUnknown(c, in.name, key.values)
		}
	} else {
		key.column = c
		rows, err = readFeast(c, in, limit, appendFeastKey)
	}
	for _, k := range meant {
		e.columns[k], e.seen[k] = c, 1
	}
	if i := slices.IndexFunc(f.given, func(k feastKey) bool { return k.name == key.name }); i >= 0 {
		f.given[i] = key
	} else {
		f.given = append(f.given, key)
	}
	return rows, err
}

// feastKnows reports whether values are of a key's type where Feast does not know that
// type, as under an entity's name: it goes by the first that is not null.
func feastKnows(values []byte, t feature.Type) bool {
	elements, _ := feastList(values)
	for _, v := range elements {
		switch {
		case missing(v):
			continue
		case t.Kind == feature.Int64:
			_, err := jsonscan.ParseInt64(v)
			return err == nil
		}
		return v[0] == '"'
	}
	return true
}

// appendUnknown appends a null, which is not found, for each of the values of a column
// that has not the type of the key: to Feast text and whole numbers are keys nevertheless.
func appendUnknown(c *feature.Column, name string, values [][]byte) error {
	for i, v := range values {
		if _, err := jsonscan.ParseInt64(v); err != nil && v[0] != '"' && !missing(v) {
			return feastBad(fmt.Sprintf("%s[%d]: %s cannot be a key of type %s", name, i, short(v), c.Type))
		}
		c.AppendNull()
	}
	return nil
}

// joinKeyEntity finds the entity that has a join key of a name.
func joinKeyEntity(p *registry.Project, joinKey string) *registry.Entity {
	for i := range p.Entities {
		if fieldNamed(p.Entities[i].JoinKeys, joinKey) >= 0 {
			return &p.Entities[i]
		}
	}
	return nil
}

func fieldNamed(fields []feature.Field, name string) int {
	return slices.IndexFunc(fields, func(f feature.Field) bool { return f.Name == name })
}

// feastKeys are the key columns of a selection that a join key is meant for: its own, and
// those that it was renamed to, as Feast takes the join key's own name for them too. Where
// its own is there, a renamed one that is given is another role's, and stays apart.
func feastKeys(sel *selection.Selection, joinKey string, r *feastRequest) []int {
	var columns []int
	own := fieldNamed(sel.Keys, joinKey)
	if own >= 0 {
		columns = append(columns, own)
	}
	for _, role := range sel.Roles {
		for j, f := range role.View.JoinKeys() {
			k := role.Keys[j]
			if f.Name == joinKey && !slices.Contains(columns, k) && (own < 0 || !r.gives(sel.Keys[k].Name)) {
				columns = append(columns, k)
			}
		}
	}
	return columns
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
func readFeast(c *feature.Column, in feastMember, limit int, read func(*jsonscan.Scanner, *feature.Column) error) (rows int, err error) {
	c.Reset()
	s, err := feastScanner(in.value)
	if err != nil {
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
		if err := read(&s, c); err != nil {
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
		if e.shared[i] {
			e.columns[i] = e.columns[fieldNamed(sel.Keys, sel.Request[i-e.keys].Name)]
			continue
		}
		if e.seen[i] == 0 {
			for range rows {
				c.AppendNull()
			}
		}
	}
	return nil
}

func countElements(values []byte) (n int, err error) {
	s, err := feastScanner(values)
	if err != nil {
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
