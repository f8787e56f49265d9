package joinsql

import (
	"fmt"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// windows aggregates a role's events in the windows of each row of the spine, for functions whose value SQL
// gives as well: count, sum, mean, min and max.
func (w *writer) windows(i int) error {
	role := w.q.Selection.Roles[i]
	if w.d == ClickHouse {
		return fmt.Errorf("%w for ClickHouse, which joins by ranges only in part: view %s", ErrWindow, role.View)
	}
	type windowed struct {
		a registry.Aggregation
		w registry.Window
	}
	var all []windowed
	for _, a := range role.View.View.Aggregations {
		for _, win := range a.Windows {
			all = append(all, windowed{a, win})
		}
	}
	viewKeys, spineKeys := w.rowKeys(i)
	cols := []string{w.micros("event_timestamp") + " AS " + own + "e"}
	for k, key := range viewKeys {
		cols = append(cols, fmt.Sprintf("%s AS %sk%d", w.name(key), own, k))
	}
	for k, in := range role.View.View.Inputs {
		cols = append(cols, fmt.Sprintf("%s AS %sin%d", w.name(in.Name), own, k))
	}
	on := []string{fmt.Sprintf("r.%se <= l.%sat", own, own)}
	for k, key := range spineKeys {
		on = append(on, fmt.Sprintf("l.%s = r.%sk%d", w.name(key), own, k))
	}
	var exprs []string
	longest, lifetime := "", false
	for k, f := range role.Features {
		one := all[f]
		name := role.View.View.Features[f].Name
		// An event counts in the window (floor(T - length, hop), T].
		in := fmt.Sprintf("r.%se IS NOT NULL", own)
		if length := one.w.Length(); length != feature.Lifetime {
			hop := int64(role.View.View.Hop(length))
			x := fmt.Sprintf("(l.%sat - %d)", own, int64(length))
			tail := fmt.Sprintf("%s - ((%s %% %d) + %d) %% %d", x, x, hop, hop, hop)
			in = fmt.Sprintf("r.%se > %s", own, tail)
			longest += " OR " + in
		} else {
			lifetime = true
		}
		if at := role.View.View.Input(one.a.Where); at >= 0 {
			in += fmt.Sprintf(" AND r.%sin%d", own, at)
		}
		value, err := w.aggregate(role.View.View, one.a, in)
		if err != nil {
			return fmt.Errorf("%w: %s of %s: %w", ErrWindow, name, role.View, err)
		}
		exprs = append(exprs, value+" AS "+column(i, k))
	}
	if !lifetime {
		on = append(on, "("+strings.TrimPrefix(longest, " OR ")+")")
	}
	if !w.there(i) {
		return fmt.Errorf("%w: nothing has been ingested for %s yet", ErrWindow, role.View)
	}
	w.f(",\nr%d AS ( -- %s: events\n    SELECT %s\n    FROM %s%s\n)", i, role.View, strings.Join(cols, ", "), w.table(i), w.known())
	w.f(",\nj%d AS (\n  SELECT %s,\n    %s\n  FROM %s AS l LEFT JOIN r%d AS r ON %s\n  GROUP BY %s\n)", i, w.carried("l."), strings.Join(exprs, ",\n    "), w.from, i, strings.Join(on, " AND "), w.grouped("l."))
	for k := range role.Features {
		w.have = append(w.have, column(i, k))
	}
	w.from = fmt.Sprintf("j%d", i)
	return nil
}

// grouped are the columns of the step before, to group by: one of them numbers the rows.
func (w *writer) grouped(prefix string) string {
	var all []string
	for _, c := range w.q.Columns {
		all = append(all, prefix+w.name(c))
	}
	for _, c := range append([]string{own + "row", own + "at", own + "one"}, w.have...) {
		all = append(all, prefix+c)
	}
	return strings.Join(all, ", ")
}

// aggregate is an aggregation of the events for which a condition holds. Nulls and NaNs are skipped, and an
// integer sum that overflows is null.
func (w *writer) aggregate(v *registry.FeatureView, a registry.Aggregation, in string) (string, error) {
	if a.By != "" {
		return "", fmt.Errorf("%s by a secondary key", a.Function)
	}
	if a.Column == "" {
		if a.Function != "count" {
			return "", fmt.Errorf("%s without a column", a.Function)
		}
		return "count(CASE WHEN " + in + " THEN 1 END)", nil
	}
	at := v.Input(a.Column)
	x, t := fmt.Sprintf("r.%sin%d", own, at), v.Inputs[at].Type
	if t.Kind == feature.Float64 {
		isNaN := map[Dialect]string{DuckDB: "isnan", Spark: "isnan", Trino: "is_nan"}[w.d]
		in += fmt.Sprintf(" AND NOT %s(%s)", isNaN, x)
	}
	x = "CASE WHEN " + in + " THEN " + x + " END"
	switch a.Function {
	case "count":
		return "count(" + x + ")", nil
	case "mean":
		return "avg(CAST(" + x + " AS DOUBLE))", nil
	case "sum":
		if t.Kind == feature.Float64 {
			return "sum(" + x + ")", nil
		}
		sum := "sum(CAST(" + x + " AS DECIMAL(38, 0)))"
		return "CASE WHEN " + sum + " BETWEEN -9223372036854775808 AND 9223372036854775807 THEN CAST(" + sum + " AS BIGINT) END", nil
	case "min", "max":
		return a.Function + "(" + x + ")", nil
	}
	return "", fmt.Errorf("%s has no SQL of the same value: count, sum, mean, min and max have", a.Function)
}
