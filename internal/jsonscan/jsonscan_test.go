package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseInt64(t *testing.T) {
	for _, tc := range []struct {
		lit  string
		want int64
		err  error
	}{
		{"0", 0, nil}, {"-0", 0, nil}, {"9007199254740993", 9007199254740993, nil},
		{"9223372036854775807", math.MaxInt64, nil}, {"-9223372036854775808", math.MinInt64, nil},
		{"9223372036854775808", 0, ErrRange}, {"-9223372036854775809", 0, ErrRange},
		{"18446744073709551616", 0, ErrRange}, {strings.Repeat("9", 400), 0, ErrRange},
		{"1.0", 0, ErrNotWhole}, {"1e3", 0, ErrNotWhole}, {strings.Repeat("9", 40) + ".5", 0, ErrNotWhole},
	} {
		got, err := ParseInt64([]byte(tc.lit))
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("ParseInt64(%s) = %d, %v; want %d, %v", tc.lit, got, err, tc.want, tc.err)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		`""`: "", `"a"`: "a", `"zoë 🚚"`: "zoë 🚚", `"\u0041\n\t\"\\\/\b\f\r"`: "A\n\t\"\\/\b\f\r",
		`"\ud83d\ude9a!"`: "🚚!", `"x\u0000y"`: "x\x00y", `"é\u00e9é"`: "ééé",
	} {
		var s Scanner
		if err := s.Reset([]byte(in + " ")); err != nil {
			t.Fatal(err)
		}
		got, err := s.Text()
		if err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", in, got, err, want)
		}
		if err := s.End(); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestAllowNaN(t *testing.T) {
	var s Scanner
	if err := s.Reset([]byte(`[NaN, Infinity,-Infinity,1]`)); err != nil {
		t.Fatal(err)
	}
	s.AllowNaN()
	whole := s
	if _, err := whole.Skip(); err != nil {
		t.Error(err)
	}
	if err := s.OpenArray(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NaN", "Infinity", "-Infinity", "1"} {
		more, err := s.More()
		if !more || err != nil {
			t.Fatal(more, err)
		}
		if got, err := s.Literal(); err != nil || string(got) != want {
			t.Errorf("%s = %s, %v", want, got, err)
		}
	}
	for _, wrong := range []string{"-NaN", "Nan", "Infin", "-", "[NaN.5]", "[NaN1]"} {
		if err := s.Reset([]byte(wrong)); err != nil {
			t.Fatal(err)
		}
		s.AllowNaN()
		if _, err := s.Skip(); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{``, "ends too early"}, {`{`, "ends too early"}, {`[1,]`, "where a value should begin"}, {`[1 2]`, "want ','"},
		{`{"a" 1}`, "want ':'"}, {`{a:1}`, "want a member's name"}, {`{"a":1,}`, "want a member's name"}, {`01`, "goes on"},
		{`1.`, "ends too early"}, {`-`, "ends too early"}, {`1e`, "ends too early"}, {`+1`, "where a value should begin"}, {`NaN`, "where a value should begin"},
		{`tru`, "want true"}, {`nul`, "want null"}, {`"a`, "ends within a string"}, {"\"\x01\"", "control character"}, {`"\x"`, "unknown escape"},
		{`"\ud800"`, "surrogate"}, {`"\u12g4"`, "hex digits"}, {"\"\xff\"", "invalid UTF-8"}, {`1 2`, "after the end"}, {"\ufeff1", "where a value should begin"},
		{strings.Repeat("[", 100), "nested more than 63 deep"}, {`[1}`, "want ','"}, {`{"a":1]`, "want ','"},
	} {
		if err := skipAll([]byte(tc.in)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v; want %q", tc.in, err, tc.want)
		}
	}
}

func skipAll(data []byte) error {
	var s Scanner
	if err := s.Reset(data); err != nil {
		return err
	}
	if _, err := s.Skip(); err != nil {
		return err
	}
	return s.End()
}

// FuzzScanner holds the scanner against encoding/json: both take the same texts
// (but for depth and lone surrogates, where this one is stricter), and read the
// same values from them.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e-3,null,true,"x\u00e9"],"b":{}}`, `[]`, `"\ud83d\ude9a"`, `-0`, `[[[]]]`, `{"":{"a":[{}]}}`, `1e400`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) {
			if skipAll(bytes.Clone(data)) == nil {
				t.Fatalf("%q: invalid UTF-8 was taken", data)
			}
			return
		}
		err := skipAll(bytes.Clone(data))
		var syntax *SyntaxError
		if err != nil && !errors.As(err, &syntax) {
			t.Fatalf("%q: %T", data, err)
		}
		if valid := json.Valid(data); valid != (err == nil) {
			if !valid || !strings.Contains(err.Error(), "nested") && !strings.Contains(err.Error(), "surrogate") {
				t.Fatalf("%q: valid %t, but %v", data, valid, err)
			}
			return
		}
		if err != nil {
			return
		}
		var s Scanner
		if err := s.Reset(bytes.Clone(data)); err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		read(t, &s, want)
		if err := s.End(); err != nil {
			t.Fatal(err)
		}
	})
}

func read(t *testing.T, s *Scanner, want any) {
	k, err := s.Peek()
	if err != nil {
		t.Fatal(err)
	}
	switch k {
	case Object:
		members := want.(map[string]any)
		if err := s.OpenObject(); err != nil {
			t.Fatal(err)
		}
		for {
			key, more, err := s.Key()
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				return
			}
			if _, ok := members[string(key)]; !ok {
				t.Fatalf("unknown key %q", key)
			}
			if _, err := s.Skip(); err != nil { // a duplicate key's value is not the one that encoding/json keeps
				t.Fatal(err)
			}
		}
	case Array:
		if err := s.OpenArray(); err != nil {
			t.Fatal(err)
		}
		for _, e := range want.([]any) {
			if more, err := s.More(); !more || err != nil {
				t.Fatal(more, err)
			}
			read(t, s, e)
		}
		if more, err := s.More(); more || err != nil {
			t.Fatal(more, err)
		}
	case String:
		if b, err := s.Text(); err != nil || string(b) != want.(string) {
			t.Fatalf("%q, %v; want %q", b, err, want)
		}
	case Number:
		lit, err := s.Literal()
		if err != nil || string(lit) != string(want.(json.Number)) {
			t.Fatalf("%q, %v; want %q", lit, err, want)
		}
		n, err := ParseInt64(lit)
		if m, merr := strconv.ParseInt(string(lit), 10, 64); (err == nil) != (merr == nil) || err == nil && m != n {
			t.Fatalf("%s: %d, %v; want %d, %v", lit, n, err, m, merr)
		}
	case Null:
		if null, err := s.Null(); !null || err != nil {
			t.Fatal(null, err)
		}
	default:
		if b, err := s.Bool(); err != nil || b != want.(bool) {
			t.Fatal(b, err)
		}
	}
}
