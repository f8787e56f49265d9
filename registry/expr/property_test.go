package expr

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/cel-go/common/types"

	"github.com/forebay/forebay/registry/feature"
)

var seed = flag.Uint64("seed", 0, "of the random expressions; 0 for a new one")

func newRand(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 1))
}

// An oracle value: an absent one has a state, the others a Go value.
type oracle struct {
	state string // "null", "invalid" or ""
	v     any
}

var (
	nullO    = oracle{state: "null"}
	invalidO = oracle{state: "invalid"}
)

// strict is the result of an operator that needs its operands: absent if one of
// them is, null before invalid.
func strict(f func() oracle, os ...oracle) oracle {
	worst := oracle{}
	for _, o := range os {
		if o.state == "null" || worst.state == "" && o.state != "" {
			worst = o
		}
	}
	if worst.state != "" {
		return worst
	}
	return f()
}

// tree is a random expression: its text, and what it means, told without CEL.
type tree struct {
	src  string
	mean func(row map[string]oracle) oracle
}

type generator struct{ *rand.Rand }

func (g generator) leaf(names []string, literal func() (string, any)) tree {
	if i := g.IntN(len(names) + 1); i < len(names) {
		return tree{names[i], func(row map[string]oracle) oracle { return row[names[i]] }}
	}
	s, v := literal()
	return tree{s, func(map[string]oracle) oracle { return oracle{v: v} }}
}

func (g generator) binary(op string, a, b tree, f func(a, b any) oracle) tree {
	return tree{"(" + a.src + " " + op + " " + b.src + ")", func(row map[string]oracle) oracle {
		x, y := a.mean(row), b.mean(row)
		return strict(func() oracle { return f(x.v, y.v) }, x, y)
	}}
}

func (g generator) choice(c, a, b tree) tree {
	return tree{"(" + c.src + " ? " + a.src + " : " + b.src + ")", func(row map[string]oracle) oracle {
		x := c.mean(row)
		switch {
		case x.state != "":
			return x
		case x.v.(bool):
			return a.mean(row)
		}
		return b.mean(row)
	}}
}

func (g generator) integer(depth int) tree {
	if depth == 0 || g.IntN(6) == 0 {
		return g.leaf([]string{"a", "b", "v.n"}, func() (string, any) {
			i := []int64{0, 1, 2, 3, 7, 1 << 40, math.MaxInt64}[g.IntN(7)]
			return strconv.FormatInt(i, 10), i
		})
	}
	switch g.IntN(8) {
	case 0:
		return g.choice(g.boolean(depth-1), g.integer(depth-1), g.integer(depth-1))
	case 1:
		s := g.text(depth - 1)
		return tree{"size(" + s.src + ")", func(row map[string]oracle) oracle {
			x := s.mean(row)
			return strict(func() oracle { return oracle{v: int64(len([]rune(x.v.(string))))} }, x)
		}}
	case 2:
		a := g.integer(depth - 1)
		return tree{"(-" + a.src + ")", func(row map[string]oracle) oracle {
			x := a.mean(row)
			return strict(func() oracle { return whole(new(big.Int).Neg(big.NewInt(x.v.(int64)))) }, x)
		}}
	}
	ops := map[string]func(x, y *big.Int) *big.Int{
		"+": func(x, y *big.Int) *big.Int { return new(big.Int).Add(x, y) },
		"-": func(x, y *big.Int) *big.Int { return new(big.Int).Sub(x, y) },
		"*": func(x, y *big.Int) *big.Int { return new(big.Int).Mul(x, y) },
		"/": func(x, y *big.Int) *big.Int { return new(big.Int).Quo(x, y) },
		"%": func(x, y *big.Int) *big.Int { return new(big.Int).Rem(x, y) },
	}
	op := []string{"+", "-", "*", "/", "%"}[g.IntN(5)]
	return g.binary(op, g.integer(depth-1), g.integer(depth-1), func(a, b any) oracle {
		x, y := a.(int64), b.(int64)
		if (op == "/" || op == "%") && y == 0 || op == "%" && x == math.MinInt64 && y == -1 {
			return invalidO
		}
		return whole(ops[op](big.NewInt(x), big.NewInt(y)))
	})
}

func whole(i *big.Int) oracle {
	if !i.IsInt64() {
		return invalidO
	}
	return oracle{v: i.Int64()}
}

func (g generator) float(depth int) tree {
	if depth == 0 || g.IntN(6) == 0 {
		return g.leaf([]string{"x", "y", "v.m"}, func() (string, any) {
			f := []float64{0, 0.5, 2, 1e300}[g.IntN(4)]
			return feature.OfFloat64(f).String(), f
		})
	}
	switch g.IntN(6) {
	case 0:
		return g.choice(g.boolean(depth-1), g.float(depth-1), g.float(depth-1))
	case 1:
		a := g.integer(depth - 1)
		return tree{"double(" + a.src + ")", func(row map[string]oracle) oracle {
			x := a.mean(row)
			return strict(func() oracle { return oracle{v: float64(x.v.(int64))} }, x)
		}}
	}
	op := []string{"+", "-", "*", "/"}[g.IntN(4)]
	return g.binary(op, g.float(depth-1), g.float(depth-1), func(a, b any) oracle {
		x, y := a.(float64), b.(float64)
		var r float64
		switch op {
		case "+":
			r = x + y
		case "-":
			r = x - y
		case "*":
			r = x * y
		default:
			if y == 0 {
				return invalidO
			}
			r = x / y
		}
		if math.IsInf(r, 0) || math.IsNaN(r) { // no infinity or NaN comes in
			return invalidO
		}
		return oracle{v: r}
	})
}

func (g generator) text(depth int) tree {
	if depth == 0 || g.IntN(4) == 0 {
		return g.leaf([]string{"s", "u"}, func() (string, any) {
			s := []string{"", "a", "SFO", "ü"}[g.IntN(4)]
			return "'" + s + "'", s
		})
	}
	if g.IntN(3) == 0 {
		return g.choice(g.boolean(depth-1), g.text(depth-1), g.text(depth-1))
	}
	return g.binary("+", g.text(depth-1), g.text(depth-1), func(a, b any) oracle { return oracle{v: a.(string) + b.(string)} })
}

func (g generator) boolean(depth int) tree {
	if depth == 0 || g.IntN(8) == 0 {
		return g.leaf([]string{"p", "q"}, func() (string, any) {
			b := g.IntN(2) == 0
			return strconv.FormatBool(b), b
		})
	}
	switch g.IntN(9) {
	case 0, 1, 2:
		op := []string{"&&", "||"}[g.IntN(2)]
		a, b := g.boolean(depth-1), g.boolean(depth-1)
		settles := op == "||"
		return tree{"(" + a.src + " " + op + " " + b.src + ")", func(row map[string]oracle) oracle {
			x, y := a.mean(row), b.mean(row)
			if x == (oracle{v: settles}) || y == (oracle{v: settles}) {
				return oracle{v: settles}
			}
			return strict(func() oracle { return oracle{v: !settles} }, x, y)
		}}
	case 3:
		a := g.boolean(depth - 1)
		return tree{"!" + a.src, func(row map[string]oracle) oracle {
			x := a.mean(row)
			return strict(func() oracle { return oracle{v: !x.v.(bool)} }, x)
		}}
	case 4:
		a := []func(int) tree{g.integer, g.float, g.text, g.boolean}[g.IntN(4)](depth - 1)
		format := []string{"(%s == null)", "(null == %s)", "(%s != null)"}[g.IntN(3)]
		return tree{fmt.Sprintf(format, a.src), func(row map[string]oracle) oracle {
			return oracle{v: (a.mean(row).state != "") != strings.Contains(format, "!=")}
		}}
	case 5:
		a := g.text(depth - 1)
		return tree{"(" + a.src + " in ['a', 'SFO'])", func(row map[string]oracle) oracle {
			x := a.mean(row)
			return strict(func() oracle { return oracle{v: x.v == "a" || x.v == "SFO"} }, x)
		}}
	}
	ops := map[string]func(c int) bool{
		"<": func(c int) bool { return c < 0 }, "<=": func(c int) bool { return c <= 0 }, ">": func(c int) bool { return c > 0 },
		">=": func(c int) bool { return c >= 0 }, "==": func(c int) bool { return c == 0 }, "!=": func(c int) bool { return c != 0 },
	}
	op := []string{"<", "<=", ">", ">=", "==", "!="}[g.IntN(6)]
	holds := ops[op]
	switch g.IntN(4) {
	case 0:
		return g.binary(op, g.text(depth-1), g.text(depth-1), func(a, b any) oracle { return oracle{v: holds(strings.Compare(a.(string), b.(string)))} })
	case 1:
		return g.binary(op, g.float(depth-1), g.float(depth-1), func(a, b any) oracle { return oracle{v: holds(number(a).Cmp(number(b)))} })
	case 2:
		if op != "==" && op != "!=" {
			return g.binary(op, g.integer(depth-1), g.float(depth-1), func(a, b any) oracle { return oracle{v: holds(number(a).Cmp(number(b)))} })
		}
	}
	return g.binary(op, g.integer(depth-1), g.integer(depth-1), func(a, b any) oracle { return oracle{v: holds(number(a).Cmp(number(b)))} })
}

func number(v any) *big.Float {
	if i, ok := v.(int64); ok {
		return new(big.Float).SetInt64(i)
	}
	return big.NewFloat(v.(float64))
}

func (g generator) row() (map[string]feature.Value, map[string]oracle) {
	values, oracles := map[string]feature.Value{}, map[string]oracle{}
	put := func(name string, v feature.Value, o any) {
		values[name], oracles[name] = v, oracle{v: o}
		switch g.IntN(8) {
		case 0, 1:
			values[name], oracles[name] = feature.Value{}, nullO
		case 2:
			values[name], oracles[name] = feature.Invalid(), invalidO
		}
	}
	for _, n := range []string{"a", "b", "v.n"} {
		i := []int64{0, 1, -1, 5, math.MaxInt64, math.MinInt64, 1<<53 + 1}[g.IntN(7)]
		put(n, feature.OfInt64(i), i)
	}
	for _, n := range []string{"x", "y", "v.m"} {
		f := []float64{0, 1, -2.5, 1e308, 1 << 53, 9.3e18}[g.IntN(6)]
		put(n, feature.OfFloat64(f), f)
	}
	for _, n := range []string{"p", "q"} {
		b := g.IntN(2) == 0
		put(n, feature.OfBool(b), b)
	}
	for _, n := range []string{"s", "u"} {
		s := []string{"", "a", "SFO", "é\x00"}[g.IntN(4)]
		put(n, feature.OfString(s), s)
	}
	return values, oracles
}

func (o oracle) value() feature.Value {
	switch v := o.v.(type) {
	case bool:
		return feature.OfBool(v)
	case int64:
		return feature.OfInt64(v)
	case float64:
		return feature.OfFloat64(v)
	case string:
		return feature.OfString(v)
	}
	if o.state == "invalid" {
		return feature.Invalid()
	}
	return feature.Value{}
}

// TestAgainstOracle runs random expressions over random rows, many at a time, and
// compares with what they mean.
func TestAgainstOracle(t *testing.T) {
	g := generator{newRand(t)}
	scope := testScope(t)
	for range 1500 {
		want := []feature.Type{feature.TypeInt64, feature.TypeFloat64, feature.TypeString, feature.TypeBool}[g.IntN(4)]
		tr := map[feature.Type]func(int) tree{feature.TypeInt64: g.integer, feature.TypeFloat64: g.float, feature.TypeString: g.text, feature.TypeBool: g.boolean}[want](1 + g.IntN(4))
		if strings.Contains(tr.src, "null == null") || len(tr.src) > MaxSource {
			continue
		}
		p, err := Compile(tr.src, scope, want)
		if err != nil {
			t.Fatalf("%s: %v", tr.src, err)
		}
		const rows = 20
		var values [rows]map[string]feature.Value
		var oracles [rows]map[string]oracle
		for i := range rows {
			values[i], oracles[i] = g.row()
		}
		in := make([]*feature.Column, len(p.Inputs()))
		for i, input := range p.Inputs() {
			in[i] = feature.NewColumn(input.String(), input.Type, rows)
			for r := range rows {
				in[i].Append(values[r][input.String()])
			}
		}
		out := feature.NewColumn("out", want, rows)
		invalid := p.Eval(in, rows, out)
		for r := range rows {
			got, want := out.Value(r), tr.mean(oracles[r]).value()
			if !got.Equal(want) || got.IsInvalid() != want.IsInvalid() {
				t.Fatalf("%s = %v (invalid %t), want %v (invalid %t)\nover %v", tr.src, got, got.IsInvalid(), want, want.IsInvalid(), values[r])
			}
		}
		if invalid != out.Bad.Count() {
			t.Fatalf("%s: %d invalid counted, %d there are", tr.src, invalid, out.Bad.Count())
		}
	}
}

// TestAgainstCEL: where nothing is absent, a value is what cel-go's own
// evaluator gives, and an error of its is an invalid value here.
func TestAgainstCEL(t *testing.T) {
	g := generator{newRand(t)}
	scope := testScope(t)
	base, err := scope.env.Extend()
	if err != nil {
		t.Fatal(err)
	}
	sources := []string{
		"s.indexOf(u)", "s.lastIndexOf('o')", "s.split('').size()", "int(s)", "ns.map(n, n + a).size()", "ns.filter(n, n % 2 == 0).size()", "ns[a]", "ns[0] + ns[1]",
		"ss.map(e, size(e))[0]", "ns.exists_one(n, n == 2) ? 1 : 0", "timestamp.getFullYear()", "(timestamp - duration('90m')).getMinutes()", "{'a': 1, 'SFO': 2}[s]", "{'a': [1, 2]}.a[1]",
		"math.greatest(a, b)", "math.least(ns)", "math.bitAnd(a, b)", "size(raw)", "ns.map(n, ns.map(m, m * n)).map(l, l.size())[2]", "s.matches('^S') ? a : b", "s.contains(u) ? 1 : 2",
		"(s + u).size()", "string(a).size()", "size(ss.join(s))", "s.charAt(0) == 'S' ? 1 : 0", "ns == [1, 2, 3] ? 1 : 0", "[a, b] == [b, a] ? 1 : 0", "a in ns ? 1 : 0", "'%s-%d'.format([s, a]).size()",
		"ns.all(n, n > 0 && a > n) ? 1 : 0", "[[1], [2, 3]].exists(l, size(l) == 2) ? 1 : 0", "timestamp < timestamp('2024-06-01T00:00:00Z') ? 1 : 0", "int(timestamp)", "fs.exists(f, f > x) ? 1 : 0",
		"emb.map(e, e * 2.0).size()", "size(s.replace('S', s))", "size(s.substring(1))", "int(x)", "bytes(s) == raw ? 1 : 0", "size(bytes(u))",
	}
	for range 100 {
		src := g.integer(3).src
		if !strings.Contains(src, "null") {
			sources = append(sources, src)
		}
	}
	for _, src := range sources {
		p, err := Compile(src, scope, feature.TypeInt64)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		checked, issues := base.Compile(src)
		if issues.Err() != nil {
			t.Fatalf("%s: %v", src, issues.Err())
		}
		prg, err := base.Program(checked)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		for range 10 {
			row := map[string]feature.Value{
				"timestamp": feature.OfTimestamp(1_700_000_000_000_000 + g.Int64N(1e14)), "raw": feature.OfBytes([]byte("a")), "ns": ints(1, 2, 3), "bytes": feature.OfInt64(1),
				"ss": texts("SFO", "", "é"), "fs": feature.OfList(feature.Float64, []feature.Value{feature.OfFloat64(1.5)}), "emb": feature.OfEmbedding([]float32{1, 2, 3}),
				"a": feature.OfInt64(g.Int64N(5) - 1), "b": feature.OfInt64(g.Int64N(3)), "x": feature.OfFloat64(g.Float64()), "y": feature.OfFloat64(g.Float64()),
				"p": feature.OfBool(g.IntN(2) == 0), "q": feature.OfBool(g.IntN(2) == 0), "s": feature.OfString([]string{"", "a", "SFO", "12"}[g.IntN(4)]), "u": feature.OfString([]string{"", "F"}[g.IntN(2)]),
				"v.n": feature.OfInt64(g.Int64N(9)), "v.m": feature.OfFloat64(g.Float64()), "stats.mean_1h": feature.OfFloat64(g.Float64()),
			}
			vars := map[string]any{}
			for name, v := range row {
				vars[name] = box(v)
			}
			theirs, _, err := prg.Eval(vars)
			ours := evalOne(t, src, feature.TypeInt64, row)
			switch {
			case err != nil && !ours.IsInvalid():
				t.Errorf("%s = %v over %v; cel-go: %v", src, ours, row, err)
			case err == nil && !ours.IsInvalid() && theirs.Equal(types.Int(ours.Int64())) != types.True:
				t.Errorf("%s = %v over %v; cel-go: %v", src, ours, row, theirs)
			case err == nil && ours.IsInvalid() && !strings.Contains(src, "/") && !strings.Contains(src, "*"): // floats may have overflowed
				t.Errorf("%s is invalid over %v; cel-go: %v", src, row, theirs)
			}
		}
		_ = p
	}
}

// FuzzCompile feeds the compiler anything, and runs what compiles.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"a + 1", "b == null ? 0 : b", "ns.exists(n, n > a)", "{'a': 1}[s]", "has({'a': 1}.a)", "'%d'.format([a])", "s.replace('', u)", "[[a]].map(l, l[0])",
		"math.greatest(a, b, 3)", "timestamp + duration('1h')", "null", "v.n", "stats.", "a ? b : c", "\xff", "'\\u00e9'", "b'\\x00'", "1u", "-9223372036854775808", "ns.map(n, ns)", "p && (q || null)", "string(bytes)"} {
		f.Add(s, uint8(0))
	}
	scope := testScope(f)
	wants := []feature.Type{feature.TypeBool, feature.TypeInt64, feature.TypeFloat64, feature.TypeString, feature.TypeBytes, feature.TypeTimestamp,
		feature.ListOf(feature.Int64), feature.ListOf(feature.String), feature.EmbeddingOf(3)}
	f.Fuzz(func(t *testing.T, source string, which uint8) {
		want := wants[int(which)%len(wants)]
		p, err := Compile(source, scope, want)
		if err != nil {
			var mistakes Errors
			if !errors.As(err, &mistakes) {
				t.Fatalf("%q: %v", source, err)
			}
			for _, e := range mistakes {
				if e.Offset < 0 || e.Offset > len(source) || e.Message == "" {
					t.Errorf("%q: error %+v", source, e)
				}
			}
			return
		}
		for _, v := range []feature.Value{{}, feature.OfInt64(3)} {
			var in []*feature.Column
			for _, i := range p.Inputs() {
				c := feature.NewColumn(i.String(), i.Type, 1)
				if i.Type == feature.TypeInt64 {
					c.Append(v)
				} else {
					c.AppendNull()
				}
				in = append(in, c)
			}
			p.Eval(in, 1, feature.NewColumn("out", want, 1))
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	b.Run("scope", func(b *testing.B) {
		for b.Loop() {
			testScope(b)
		}
	})
	b.Run("expression", func(b *testing.B) {
		scope := testScope(b)
		for b.Loop() {
			if _, err := Compile("a != null && a > 15", scope, feature.TypeBool); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEval(b *testing.B) {
	const rows = 1024
	row := map[string]feature.Value{"a": feature.OfInt64(7), "b": feature.OfInt64(0), "x": feature.OfFloat64(2.5), "y": feature.OfFloat64(4), "s": feature.OfString("SFO"), "ns": ints(1, 2, 3)}
	for _, c := range []struct {
		source string
		t      feature.Type
	}{
		{"a", feature.TypeInt64}, {"a > 15", feature.TypeBool}, {"a != null && a > 15", feature.TypeBool}, {"double(a) / x + y", feature.TypeFloat64},
		{"s in ['JFK', 'SFO']", feature.TypeBool}, {"s.startsWith('S')", feature.TypeBool}, {"a > 15 ? a : b", feature.TypeInt64}, {"ns.exists(n, n > 2)", feature.TypeBool},
	} {
		b.Run(c.source, func(b *testing.B) {
			p, err := Compile(c.source, testScope(b), c.t)
			if err != nil {
				b.Fatal(err)
			}
			var in []*feature.Column
			for _, i := range p.Inputs() {
				col := feature.NewColumn(i.Name, i.Type, rows)
				for range rows {
					col.Append(row[i.Name])
				}
				in = append(in, col)
			}
			out := feature.NewColumn("out", c.t, rows)
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				p.Eval(in, rows, out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
