package expr

import (
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/operators"
)

// What CEL says, said in Forebay's words: a feature repository's author knows
// int64 and list<string>, not overloads and containers.

var (
	celNames = strings.NewReplacer("google.protobuf.Timestamp", "timestamp", "google.protobuf.Duration", "duration")
	celWords = regexp.MustCompile(`\b(int\b|double\b|list\(|map\()`)
	overload = regexp.MustCompile(`(?s)^found no matching overload for '(.*)' applied to '(.*)'$`)
	reserved = regexp.MustCompile(`^reserved identifier: (\w+)$`)
	literal  = regexp.MustCompile(`^invalid (matches|duration|timestamp) argument$`)
	expected = regexp.MustCompile(`(?s) expecting .*$`)
)

// literalKinds says what the constant argument of a function had to be.
func literalKinds(fn string) string {
	if fn == "matches" {
		return "regular expression"
	}
	return fn
}

func literalExample(fn string) string {
	switch fn {
	case "matches":
		return "the syntax is RE2's"
	case "duration":
		return "such as duration('90m') or duration('24h')"
	}
	return "such as timestamp('2006-01-02T15:04:05Z')"
}

// inOurNames replaces CEL's names of types.
func inOurNames(s string) string {
	s = celNames.Replace(s)
	for {
		m := celWords.FindStringIndex(s)
		if m == nil {
			return s
		}
		switch word := s[m[0]:m[1]]; word {
		case "int":
			s = s[:m[0]] + "int64" + s[m[1]:]
		case "double":
			s = s[:m[0]] + "float64" + s[m[1]:]
		default: // list( or map(: their parentheses become angle brackets
			depth, end := 1, m[1]
			for ; end < len(s) && depth > 0; end++ {
				switch s[end] {
				case '(':
					depth++
				case ')':
					depth--
				}
			}
			s = s[:m[0]] + word[:len(word)-1] + "<" + s[m[1]:max(m[1], end-1)] + ">" + s[end:]
		}
	}
}

func syntaxError(source string, e *cel.Error) *Error {
	out := &Error{Kind: Syntax, Offset: locate(source, e.Location), Message: strings.TrimPrefix(e.Message, "Syntax error: ")}
	if m := reserved.FindStringSubmatch(e.Message); m != nil {
		out.Message = m[1] + " is a word of CEL"
		out.Hint = "give the column another name: {type: …, from: " + m[1] + "}"
		return out
	}
	if before, _, ok := strings.Cut(out.Message, "'<EOF>'"); ok {
		out.Message = "the expression ends too early"
		if what, ok := strings.CutPrefix(before, "missing "); ok {
			out.Message += ": " + strings.TrimSuffix(what, " at ") + " is missing"
		}
		return out
	}
	out.Message = "syntax error: " + expected.ReplaceAllString(out.Message, "")
	if strings.Contains(source, "=") && strings.Contains(out.Message, "'= '") || strings.Contains(out.Message, "'='") {
		out.Hint = "equality is =="
	}
	for _, w := range []struct{ word, sign string }{{"and", "&&"}, {"or", "||"}, {"not", "!"}, {"AND", "&&"}, {"OR", "||"}, {"NOT", "!"}, {"is", "== null"}} {
		if strings.Contains(out.Message, "'"+w.word+"'") {
			out.Hint = "CEL writes " + w.sign
		}
	}
	return out
}

func typeError(source string, e *cel.Error) *Error {
	out := &Error{Kind: BadType, Offset: locate(source, e.Location), Message: inOurNames(e.Message)}
	m := overload.FindStringSubmatch(e.Message)
	if l := literal.FindStringSubmatch(e.Message); l != nil {
		out.Message, out.Hint = "this is no "+literalKinds(l[1]), literalExample(l[1])
	}
	if m == nil {
		return out
	}
	fn, args := m[1], inOurNames(m[2])
	types := strings.Split(strings.Trim(args, "()"), ", ")
	isOperator := false
	if sign, ok := operators.FindReverse(fn); ok && sign != "" {
		fn, isOperator = sign, true
	}
	numbers := strings.Contains(args, "int64") && strings.Contains(args, "float64")
	switch {
	case m[1] == operators.Conditional && types[0] != "bool":
		out.Message = "the condition of ? : is of type " + types[0] + ", not bool"
	case m[1] == operators.Conditional && len(types) == 3:
		out.Message = "the two results of ? : are of types " + types[1] + " and " + types[2]
	case isOperator && len(types) == 2:
		out.Message = fn + " cannot be applied to " + types[0] + " and " + types[1]
	case isOperator:
		out.Message = fn + " cannot be applied to " + args
	default:
		out.Message = fn + "() cannot be applied to " + args
	}
	if numbers {
		out.Hint = "write double(…) around the int64, or 1.0 for 1"
	}
	return out
}
