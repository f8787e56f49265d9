// Package jsonscan reads JSON from memory one token at a time, strictly
// (RFC 8259, valid UTF-8, bounded depth), without allocating and without ever
// taking a number through a float.
//
// It is what the HTTP API reads requests with, and the SDK answers: both know
// the types they expect, so neither needs a tree of values in between.
package jsonscan

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may be nested in each other.
const MaxDepth = 64

// Kind is the kind of a JSON value, by its first byte.
type Kind byte

// The kinds of a value.
const (
	Object Kind = '{'
	Array  Kind = '['
	String Kind = '"'
	Number Kind = '0'
	True   Kind = 't'
	False  Kind = 'f'
	Null   Kind = 'n'
)

// String names the kind for messages.
func (k Kind) String() string {
	switch k {
	case Object:
		return "an object"
	case Array:
		return "an array"
	case String:
		return "a string"
	case Number:
		return "a number"
	case True:
		return "true"
	case False:
		return "false"
	case Null:
		return "null"
	}
	return "nothing"
}

// SyntaxError is text that is not the JSON it should be.
type SyntaxError struct {
	Offset int // bytes before the mistake
	Msg    string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.Msg, e.Offset) }

// ErrKind is in the chain of the error of a method that met a value of another kind.
var ErrKind = errors.New("another kind of value")

type kindError struct{ want, got Kind }

func (e *kindError) Error() string { return fmt.Sprintf("want %s, got %s", e.want, e.got) }
func (e *kindError) Is(err error) bool {
	return err == ErrKind
}

// Scanner reads one JSON text. Values are read in order, each once. The bytes
// its methods return are part of the text and stay valid as long as it does.
//
// After an error that is not ErrKind the position is undefined; after ErrKind
// the value is still to be read.
type Scanner struct {
	data   []byte
	pos    int
	depth  int
	begun  uint64 // bit d: the container at depth d has had an element
	object uint64 // bit d: the container at depth d is an object
	nan    bool   // NaN and the infinities are numbers
}

// Reset starts to read data. The scanner rewrites escaped strings in place: data
// belongs to it until it is done.
func (s *Scanner) Reset(data []byte) error {
	*s = Scanner{data: data}
	if !utf8.Valid(data) {
		for i := 0; i < len(data); {
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n <= 1 {
				return &SyntaxError{i, "invalid UTF-8"}
			}
			i += n
		}
	}
	return nil
}

// AllowNaN takes NaN, Infinity and -Infinity for numbers until the next Reset: Python
// writes them so. Literal returns them as they are.
func (s *Scanner) AllowNaN() { s.nan = true }

// Offset is the number of bytes read so far.
func (s *Scanner) Offset() int { return s.pos }

// Since is what was read from an Offset on.
func (s *Scanner) Since(offset int) []byte { return s.data[offset:s.pos] }

func (s *Scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *Scanner) fail(msg string) error {
	if s.pos >= len(s.data) {
		return &SyntaxError{len(s.data), "the JSON ends too early"}
	}
	return &SyntaxError{s.pos, msg}
}

// Peek is the kind of the next value.
func (s *Scanner) Peek() (Kind, error) {
	s.space()
	if s.pos >= len(s.data) {
		return 0, s.fail("")
	}
	switch c := s.data[s.pos]; c {
	case '{', '[', '"', 't', 'f', 'n':
		return Kind(c), nil
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return Number, nil
	default:
		if s.nan && (c == 'N' || c == 'I') {
			return Number, nil
		}
		r, _ := utf8.DecodeRune(s.data[s.pos:])
		return 0, s.fail(fmt.Sprintf("%q where a value should begin", r))
	}
}

func (s *Scanner) want(k Kind) error {
	got, err := s.Peek()
	if err != nil {
		return err
	}
	if got != k {
		return &kindError{k, got}
	}
	return nil
}

func (s *Scanner) open(k Kind) error {
	if err := s.want(k); err != nil {
		return err
	}
	if s.depth++; s.depth >= MaxDepth {
		return s.fail(fmt.Sprintf("arrays and objects nested more than %d deep", MaxDepth-1))
	}
	s.begun &^= 1 << s.depth
	s.object &^= 1 << s.depth
	if k == Object {
		s.object |= 1 << s.depth
	}
	s.pos++
	return nil
}

// next moves to the next element or member of the open container.
func (s *Scanner) next(end byte) (bool, error) {
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == end {
		s.pos++
		s.depth--
		return false, nil
	}
	if s.begun>>s.depth&1 != 0 {
		if s.pos >= len(s.data) || s.data[s.pos] != ',' {
			return false, s.fail(fmt.Sprintf("want ',' or %q", end))
		}
		s.pos++
		s.space()
	}
	s.begun |= 1 << s.depth
	return true, nil
}

// OpenObject enters an object; Key goes through its members.
func (s *Scanner) OpenObject() error { return s.open(Object) }

// Key reads the name of the object's next member, whose value is to be read
// then; more is false, and the object left, where there is none.
func (s *Scanner) Key() (key []byte, more bool, err error) {
	if more, err = s.next('}'); !more || err != nil {
		return nil, false, err
	}
	if s.pos >= len(s.data) || s.data[s.pos] != '"' {
		return nil, false, s.fail("want a member's name")
	}
	if key, err = s.text(); err != nil {
		return nil, false, err
	}
	if s.space(); s.pos >= len(s.data) || s.data[s.pos] != ':' {
		return nil, false, s.fail("want ':'")
	}
	s.pos++
	return key, true, nil
}

// OpenArray enters an array; More goes through its elements.
func (s *Scanner) OpenArray() error { return s.open(Array) }

// More reports whether there is another element to be read; the array is left where there is none.
func (s *Scanner) More() (bool, error) { return s.next(']') }

// Text reads a string.
func (s *Scanner) Text() ([]byte, error) {
	if err := s.want(String); err != nil {
		return nil, err
	}
	return s.text()
}

// text reads a string whose quote is at pos, unescaping it in place.
func (s *Scanner) text() ([]byte, error) {
	start := s.pos + 1
	plain := bytes.IndexByte(s.data[start:], '"')
	if plain >= 0 && !needsCare(s.data[start:start+plain]) {
		s.pos = start + plain + 1
		return s.data[start : start+plain], nil
	}
	w := start
	for i := start; i < len(s.data); {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			return s.data[start:w], nil
		case c == '\\':
			r, n, err := unescape(s.data, i)
			if err != nil {
				return nil, err
			}
			i += n
			w += utf8.EncodeRune(s.data[w:w+utf8.UTFMax], r)
		case c < ' ':
			return nil, &SyntaxError{i, "a control character in a string"}
		default:
			s.data[w] = c
			w++
			i++
		}
	}
	return nil, &SyntaxError{len(s.data), "the JSON ends within a string"}
}

func needsCare(b []byte) bool {
	for _, c := range b {
		if c == '\\' || c < ' ' {
			return true
		}
	}
	return false
}

// unescape decodes the escape sequence at i; n is its length, never less than
// that of the rune in UTF-8.
func unescape(data []byte, i int) (r rune, n int, err error) {
	if i+1 >= len(data) {
		return 0, 0, &SyntaxError{len(data), "the JSON ends within a string"}
	}
	switch c := data[i+1]; c {
	case '"', '\\', '/':
		return rune(c), 2, nil
	case 'b':
		return '\b', 2, nil
	case 'f':
		return '\f', 2, nil
	case 'n':
		return '\n', 2, nil
	case 'r':
		return '\r', 2, nil
	case 't':
		return '\t', 2, nil
	case 'u':
		r, ok := hex4(data, i+2)
		if !ok {
			return 0, 0, &SyntaxError{i, `want four hex digits after \u`}
		}
		if !utf16.IsSurrogate(r) {
			return r, 6, nil
		}
		if i+7 < len(data) && data[i+6] == '\\' && data[i+7] == 'u' {
			if low, ok := hex4(data, i+8); ok {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					return pair, 12, nil
				}
			}
		}
		return 0, 0, &SyntaxError{i, "half of a surrogate pair"}
	}
	return 0, 0, &SyntaxError{i, fmt.Sprintf("unknown escape \\%c", data[i+1])}
}

func hex4(data []byte, i int) (r rune, ok bool) {
	if i+4 > len(data) {
		return 0, false
	}
	for _, c := range data[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// Literal reads a number as it is written.
func (s *Scanner) Literal() ([]byte, error) {
	if err := s.want(Number); err != nil {
		return nil, err
	}
	start := s.pos
	if s.data[s.pos] == '-' {
		s.pos++
	}
	switch {
	case s.pos < len(s.data) && s.data[s.pos] == '0':
		s.pos++
	case s.digits():
	case s.nan && s.noDigits(start):
		return s.data[start:s.pos], nil
	default:
		return nil, s.fail("want a digit")
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		if s.pos++; !s.digits() {
			return nil, s.fail("want a digit after the point")
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		if !s.digits() {
			return nil, s.fail("want a digit in the exponent")
		}
	}
	if s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r', ',', ']', '}':
		default:
			return nil, s.fail("a number goes on with something else")
		}
	}
	return s.data[start:s.pos], nil
}

func (s *Scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > start
}

// noDigits reads NaN or, also after a minus, Infinity.
func (s *Scanner) noDigits(start int) bool {
	rest := s.data[s.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("Infinity")):
		s.pos += len("Infinity")
	case bytes.HasPrefix(rest, []byte("NaN")) && s.pos == start:
		s.pos += len("NaN")
	}
	return len(rest) > len(s.data)-s.pos
}

// ErrRange says that a number is too large for its type.
var ErrRange = errors.New("out of range")

// ErrNotWhole says that a number has a fraction or an exponent where a whole one is wanted.
var ErrNotWhole = errors.New("not a whole number")

// ParseInt64 reads a number's literal as an int64, exactly: ErrNotWhole for a
// fraction or an exponent, ErrRange for one that does not fit.
func ParseInt64(lit []byte) (int64, error) {
	neg := len(lit) > 0 && lit[0] == '-'
	digits := lit
	if neg {
		digits = lit[1:]
	}
	var n uint64
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, ErrNotWhole
		}
		if n > (math.MaxUint64-9)/10 {
			n = math.MaxUint64 // goes on: a fraction may still follow
			continue
		}
		if n != math.MaxUint64 {
			n = n*10 + uint64(c-'0')
		}
	}
	switch {
	case neg && n <= 1<<63:
		return -int64(n), nil
	case !neg && n < 1<<63:
		return int64(n), nil
	}
	return 0, ErrRange
}

// ParseFloat64 reads a number's literal as the nearest float64: ErrRange for one past its end.
func ParseFloat64(lit []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(lit), 64)
	if err != nil {
		return 0, ErrRange
	}
	return f, nil
}

// Bool reads true or false.
func (s *Scanner) Bool() (bool, error) {
	k, err := s.Peek()
	switch {
	case err != nil:
		return false, err
	case k == True:
		return true, s.word("true")
	case k == False:
		return false, s.word("false")
	}
	return false, &kindError{True, k}
}

// Null reads null, if that is next.
func (s *Scanner) Null() (bool, error) {
	k, err := s.Peek()
	if err != nil || k != Null {
		return false, err
	}
	return true, s.word("null")
}

func (s *Scanner) word(w string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(w)) {
		return s.fail("want " + w)
	}
	s.pos += len(w)
	return nil
}

// Skip reads a value of any kind and checks it. It returns the bytes it is
// written in, which another Scanner may read.
func (s *Scanner) Skip() ([]byte, error) {
	k, err := s.Peek()
	if err != nil {
		return nil, err
	}
	start, outer := s.pos, s.depth
	for {
		switch k {
		case Object, Array:
			err = s.open(k)
		case String:
			err = s.skipText()
		case Number:
			_, err = s.Literal()
		case Null:
			err = s.word("null")
		default:
			_, err = s.Bool()
		}
		if err != nil {
			return nil, err
		}
		if k, err = s.skipNext(outer); err != nil {
			return nil, err
		}
		if k == 0 {
			return s.data[start:s.pos], nil
		}
	}
}

// skipNext goes on to the next value in the open container, or in one around
// it, and returns its kind; 0 once the depth is outer again.
func (s *Scanner) skipNext(outer int) (Kind, error) {
	for s.depth > outer {
		more, err := s.skipMember()
		if err != nil {
			return 0, err
		}
		if more {
			return s.Peek()
		}
	}
	return 0, nil
}

// skipMember moves to the next element of the open array, or to the value of
// the next member of the open object.
func (s *Scanner) skipMember() (bool, error) {
	if s.object>>s.depth&1 != 0 {
		more, err := s.next('}')
		if !more || err != nil {
			return false, err
		}
		if s.pos >= len(s.data) || s.data[s.pos] != '"' {
			return false, s.fail("want a member's name")
		}
		if err := s.skipText(); err != nil {
			return false, err
		}
		if s.space(); s.pos >= len(s.data) || s.data[s.pos] != ':' {
			return false, s.fail("want ':'")
		}
		s.pos++
		return true, nil
	}
	return s.next(']')
}

func (s *Scanner) skipText() error {
	for i := s.pos + 1; i < len(s.data); {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			return nil
		case c == '\\':
			_, n, err := unescape(s.data, i)
			if err != nil {
				return err
			}
			i += n
		case c < ' ':
			return &SyntaxError{i, "a control character in a string"}
		default:
			i++
		}
	}
	return &SyntaxError{len(s.data), "the JSON ends within a string"}
}

// End makes sure that nothing but space follows.
func (s *Scanner) End() error {
	if s.space(); s.pos < len(s.data) {
		return s.fail("something after the end of the JSON")
	}
	return nil
}
