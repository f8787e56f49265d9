package window

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// cell spells a scalar as bytes, so that two are equal exactly if the values
// are; all of one kind.
func cell(v feature.Value) string {
	switch v.Kind() {
	case feature.String, feature.Bytes:
		return string(v.Bytes())
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v.Bits())
	return string(b[:])
}

// uncell is the value of a kind that cell spelled; false if it is not one.
func uncell(k feature.Kind, s string) (feature.Value, bool) {
	switch k {
	case feature.String:
		return feature.OfString(s), true
	case feature.Bytes:
		return feature.OfBytes([]byte(s)), true
	}
	if len(s) != 8 {
		return feature.Value{}, false
	}
	u := binary.BigEndian.Uint64([]byte(s))
	switch k {
	case feature.Bool:
		return feature.OfBool(u != 0), u <= 1
	case feature.Int64:
		return feature.OfInt64(int64(u)), true
	case feature.Timestamp:
		return feature.OfTimestamp(int64(u)), true
	}
	return ofFloatBits(u), true
}

// set is a set of values, exact up to a cap. Past it, it forgets them: the count
// is then the cap, in whatever order values came.
type set struct {
	full   bool
	values map[string]struct{}
}

func (s *set) add(v feature.Value, limit int) *set {
	if s == nil {
		s = &set{values: map[string]struct{}{}}
	}
	if !s.full {
		s.values[cell(v)] = struct{}{}
		s.bound(limit)
	}
	return s
}

func (s *set) bound(limit int) {
	if len(s.values) >= limit {
		s.full, s.values = true, nil
	}
}

func (s *set) merge(o *set, limit int) *set {
	if s == nil {
		return &set{full: o.full, values: maps.Clone(o.values)}
	}
	switch {
	case s.full:
	case o.full:
		s.full, s.values = true, nil
	default:
		maps.Copy(s.values, o.values)
		s.bound(limit)
	}
	return s
}

// size is the number of values, or a number past every cap where it is full.
func (s *set) size() int {
	if s.full {
		return 1<<31 - 1
	}
	return len(s.values)
}

// keyed counts and sums by a secondary key, exact up to a cap of keys. Past it
// nothing is kept and the value is invalid, in whatever order keys came.
type keyed struct {
	full bool
	keys map[string]*keyAcc
}

type keyAcc struct {
	n              int64
	posInf, negInf int64
	sum            Exact
}

func (k *keyed) add(by, v feature.Value, limit int) *keyed {
	if k == nil {
		k = &keyed{keys: map[string]*keyAcc{}}
	}
	if k.full {
		return k
	}
	id := cell(by)
	a := k.keys[id]
	if a == nil {
		a = &keyAcc{}
		k.keys[id] = a
		if k.bound(limit) {
			return k
		}
	}
	a.add(v)
	return k
}

// add puts one value in.
func (a *keyAcc) add(v feature.Value) {
	a.n++
	switch v.Kind() {
	case feature.Int64:
		a.sum.AddInt(v.Int64())
	case feature.Float64:
		switch f := v.Float64(); {
		case f > maxFinite:
			a.posInf++
		case f < -maxFinite:
			a.negInf++
		default:
			a.sum.AddFloat(f)
		}
	}
}

// sub takes what was put in away again.
func (a *keyAcc) sub(o *keyAcc) {
	a.n -= o.n
	a.posInf -= o.posInf
	a.negInf -= o.negInf
	a.sum.Sub(&o.sum)
}

func (k *keyed) bound(limit int) bool {
	if len(k.keys) > limit {
		k.full, k.keys = true, nil
	}
	return k.full
}

func (k *keyed) merge(o *keyed, limit int) *keyed {
	if k == nil {
		k = &keyed{keys: make(map[string]*keyAcc, len(o.keys))}
	}
	switch {
	case k.full:
	case o.full:
		k.full, k.keys = true, nil
	default:
		for id, b := range o.keys {
			a := k.keys[id]
			if a == nil {
				a = &keyAcc{}
				k.keys[id] = a
			}
			a.n += b.n
			a.posInf += b.posInf
			a.negInf += b.negInf
			a.sum.Add(&b.sum)
		}
		k.bound(limit)
	}
	return k
}

// value is a JSON object of the keys in their order, as text: {"JFK":3,"SFO":1}.
func (k *keyed) value(f Func, g *group, limit int) feature.Value {
	if k == nil {
		return feature.Value{}
	}
	if k.full || len(k.keys) > limit {
		return feature.Invalid()
	}
	ids := slices.Collect(maps.Keys(k.keys))
	keys := make([]feature.Value, len(ids))
	index := make([]int, len(ids))
	for i, id := range ids {
		keys[i], _ = uncell(g.byType.Kind, id)
		index[i] = i
	}
	slices.SortFunc(index, func(a, b int) int { return order(keys[a], keys[b]) })
	out := []byte{'{'}
	for n, i := range index {
		if n > 0 {
			out = append(out, ',')
		}
		out = feature.AppendStringJSON(out, keys[i].String())
		out = append(out, ':')
		a := k.keys[ids[i]]
		v := feature.OfInt64(a.n)
		if f == SumBy {
			sum := acc{n: a.n, posInf: a.posInf, negInf: a.negInf, sum: a.sum}
			v = sum.value(&output{fn: Sum}, &group{typ: g.typ})
			if v.IsInvalid() {
				return v
			}
		}
		out = v.AppendJSON(out)
	}
	return feature.OfString(string(append(out, '}')))
}
