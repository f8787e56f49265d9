package selection

import (
	"context"
	"fmt"
	"slices"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// step finds or adds the step that computes an on-demand feature, after the
// steps that compute what it reads. Two steps are one if they compute the same
// feature from the same columns.
func (r *resolver) step(ctx context.Context, v *registry.OnDemandView, name string, names naming) (Column, error) {
	index := slices.IndexFunc(v.Features, func(f registry.Feature) bool { return f.Name == name })
	if index < 0 {
		return Column{}, fmt.Errorf("on-demand view %q has no feature %q", v.Name, name)
	}
	program, err := r.program(v, index)
	if err != nil {
		return Column{}, err
	}
	inputs := program.Inputs()
	columns := make([]Column, len(inputs))
	for i, in := range inputs {
		if columns[i], err = r.input(ctx, v, in, names); err != nil {
			return Column{}, err
		}
	}
	for i, s := range r.sel.Steps {
		if s.View == v && s.Feature == index && slices.Equal(s.Inputs, columns) {
			return fromStep(i), nil
		}
	}
	r.sel.Steps = append(r.sel.Steps, Step{View: v, Feature: index, Program: program, Inputs: columns})
	return fromStep(len(r.sel.Steps) - 1), nil
}

// input is where a variable of an on-demand view's expression comes from.
func (r *resolver) input(ctx context.Context, v *registry.OnDemandView, in expr.Input, names naming) (Column, error) {
	if in.View == "" {
		f := feature.Field{Name: in.Name, Type: in.Type}
		if err := r.want(f, "request field of "+v.Name); err != nil {
			return Column{}, err
		}
		return fromRequest(indexOrAdd(&r.sel.Request, f)), nil
	}
	if inner := r.project.OnDemandView(in.View); inner != nil {
		return r.step(ctx, inner, in.Name, names)
	}
	g, err := r.generation(ctx, in.View, 0)
	if err != nil {
		return Column{}, err
	}
	// The program takes the project's type, which a generation from before may not have.
	return r.viewFeature(g, in.Name, &in.Type, names)
}

// program is the compiled expression of an on-demand feature.
func (r *resolver) program(v *registry.OnDemandView, index int) (*expr.Program, error) {
	programs, ok := r.programs[v.Name]
	if !ok {
		var err error
		if programs, err = expr.CompileOnDemand(r.project, v); err != nil {
			return nil, fmt.Errorf("compiling on-demand view %q: %w", v.Name, err)
		}
		r.programs[v.Name] = programs
	}
	return programs[index], nil
}
