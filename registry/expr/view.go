package expr

import (
	"errors"
	"fmt"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// View is a compiled feature view: source rows in, view rows out. The rows of a windowed
// view have its inputs, those of others its features.
// It is safe for concurrent use.
type View struct {
	fields   []feature.Field
	columns  []int // of the source that are read, in order
	keys     []int // the source's columns of the join keys
	filter   *step // nil for none
	features []step
}

// step is a program and the source's columns that are its inputs.
type step struct {
	program *Program
	inputs  []int
}

// Stats counts what Apply did with the rows it was given.
type Stats struct {
	Rows     int // given
	Filtered int // not selected by the filter
	NullKeys int // selected, but without a whole entity key: bad rows
	Invalid  int // values that could not be computed, the filter's among them
}

// CompileView compiles the filter and the features, or inputs, of a view of p. An error is a
// mistake of the view's YAML, which validate reports with its place.
func CompileView(p *registry.Project, v *registry.FeatureView) (*View, error) {
	src := p.Source(v.Source)
	if src == nil {
		return nil, fmt.Errorf("view %q: there is no source %q", v.Name, v.Source)
	}
	scope, err := SourceScope(src)
	if err != nil {
		return nil, fmt.Errorf("source %q: %w", src.Name, err)
	}
	out := &View{}
	read := make([]bool, len(src.Columns))
	for _, name := range v.Entities {
		entity := p.Entity(name)
		if entity == nil {
			return nil, fmt.Errorf("view %q: there is no entity %q", v.Name, name)
		}
		for _, k := range entity.JoinKeys {
			i := src.Column(k.Name)
			if i < 0 || src.Columns[i].Type != k.Type {
				return nil, fmt.Errorf("view %q: source %q has no column %q of type %s", v.Name, src.Name, k.Name, k.Type)
			}
			out.keys, out.fields, read[i] = append(out.keys, i), append(out.fields, k), true
		}
	}
	compile := func(what, source string, want feature.Type) (step, error) {
		pr, err := Compile(source, scope, want)
		if err != nil {
			return step{}, fmt.Errorf("view %q: %s: %w", v.Name, what, err)
		}
		s := step{program: pr}
		for _, in := range pr.Inputs() {
			i := src.Column(in.Name)
			s.inputs, read[i] = append(s.inputs, i), true
		}
		return s, nil
	}
	var errs []error
	if v.Filter != "" {
		s, err := compile("filter", v.Filter, feature.TypeBool)
		out.filter, errs = &s, append(errs, err)
	}
	what := "feature"
	if v.Windowed() {
		what = "input"
	}
	for _, f := range v.Stored() {
		s, err := compile(fmt.Sprintf("%s %q", what, f.Name), f.Expr, f.Type)
		out.features, out.fields, errs = append(out.features, s), append(out.fields, f.Field), append(errs, err)
	}
	for i, r := range read {
		if r {
			out.columns = append(out.columns, i)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

// Fields are the columns Apply makes: the join keys, then the features or inputs.
func (v *View) Fields() []feature.Field { return v.fields }

// Columns are the indexes of the source's columns that the view reads, in order.
func (v *View) Columns() []int { return v.columns }

// Apply appends to out one row for each row of in that the filter selects and
// whose entity key is whole, with its version. in has the source's columns, in
// the source's order; columns that are not among Columns may be nil. out has Fields.
func (v *View) Apply(in, out *feature.Batch) Stats {
	stats := Stats{Rows: in.Rows}
	sel := v.selected(in, &stats)
	for i, k := range v.keys {
		copyRows(in.Columns[k], in.Rows, sel, out.Columns[i])
	}
	for i, s := range v.features {
		stats.Invalid += s.program.eval(s.columns(in), in.Rows, sel, out.Columns[len(v.keys)+i])
	}
	for _, row := range sel {
		if len(in.Versions) > 0 {
			out.Versions = append(out.Versions, in.Versions[row])
		}
	}
	out.Rows += len(sel)
	return stats
}

// selected finds the rows to take, and counts the others.
func (v *View) selected(in *feature.Batch, stats *Stats) []int {
	sel := make([]int, 0, in.Rows) // not nil: no row is not every row
	var keep *feature.Column
	if v.filter != nil {
		keep = feature.NewColumn("filter", feature.TypeBool, in.Rows)
		stats.Invalid += v.filter.program.Eval(v.filter.columns(in), in.Rows, keep)
	}
rows:
	for row := range in.Rows {
		if keep != nil && keep.Nums[row] == 0 { // false, null and invalid alike
			stats.Filtered++
			continue
		}
		for _, k := range v.keys {
			if in.Columns[k].Nulls.Get(row) {
				stats.NullKeys++
				continue rows
			}
		}
		sel = append(sel, row)
	}
	return sel
}

func (s *step) columns(in *feature.Batch) []*feature.Column {
	cs := make([]*feature.Column, len(s.inputs))
	for i, c := range s.inputs {
		cs[i] = in.Columns[c]
	}
	return cs
}

// CompileOnDemand compiles the features of an on-demand view of p, one program
// each, in order.
func CompileOnDemand(p *registry.Project, v *registry.OnDemandView) ([]*Program, error) {
	scope, err := OnDemandScope(p, v)
	if err != nil {
		return nil, fmt.Errorf("on-demand view %q: %w", v.Name, err)
	}
	var errs []error
	programs := make([]*Program, len(v.Features))
	for i, f := range v.Features {
		pr, err := Compile(f.Expr, scope, f.Type)
		if err != nil {
			errs = append(errs, fmt.Errorf("on-demand view %q: feature %q: %w", v.Name, f.Name, err))
		}
		programs[i] = pr
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return programs, nil
}
