package httpapi

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/forebay/forebay/internal/jsonscan"
)

// feastJSON makes sure that a body is JSON as Python reads it, which is what Feast's server
// is written in: with a byte order mark, NaN and infinities, and nested deeply. What it
// returns is fit for feastScanner; a body that is not JSON is answered in Python's words.
func feastJSON(body []byte) ([]byte, error) {
	var s jsonscan.Scanner
	err := s.Reset(body)
	if err == nil {
		_, err = s.Skip()
	}
	if err == nil {
		err = s.End()
	}
	if err == nil { // nearly always
		return body, nil
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(body) {
		return body, unreadable()
	}
	p := pythonJSON{text: body}
	if err := p.value(0); err != nil {
		return body, err
	}
	if p.space(); p.pos < len(p.text) {
		return body, p.fail("Extra data", p.pos)
	}
	return body, nil
}

// feastScanner scans a part of a body that feastJSON has taken.
func feastScanner(raw []byte) (s jsonscan.Scanner, err error) {
	err = s.Reset(raw)
	s.AllowNaN()
	return s, err
}

func unreadable() *feastError {
	return &feastError{status: http.StatusBadRequest, message: "There was an error parsing the body", plain: true}
}

const (
	// maxPythonDepth is about how deep a body may be nested in Feast before Python gives up.
	maxPythonDepth = 950
	// maxFeastDepth is deeper than any value that is used, and less deep than jsonscan takes.
	maxFeastDepth = jsonscan.MaxDepth / 2
)

// pythonJSON reads JSON by the rules of Python's json.loads, and fails in its words.
type pythonJSON struct {
	text []byte
	pos  int
}

var pythonScalar = regexp.MustCompile(`^(?:null|true|false|NaN|-?Infinity|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)`)

// at is the byte at pos, 0 at the end.
func (p *pythonJSON) at() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

func (p *pythonJSON) space() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\n\r", p.text[p.pos]) >= 0 {
		p.pos++
	}
}

// fail is a mistake at a byte; Python counts characters.
func (p *pythonJSON) fail(msg string, at int) error {
	e := invalid("json_invalid", "JSON decode error", []byte("{}"), utf8.RuneCount(p.text[:at]))
	e.details[0].Ctx = &feastContext{msg}
	return e
}

func (p *pythonJSON) value(depth int) error {
	p.space()
	switch c := p.at(); c {
	case '"':
		return p.string()
	case '{', '[':
		if depth == maxPythonDepth {
			return unreadable()
		}
		p.pos++
		start := p.pos
		if err := p.members(c, depth); err != nil {
			return err
		}
		if depth >= maxFeastDepth { // nobody reads what is in it, and jsonscan would refuse it
			copy(p.text[start:p.pos-1], bytes.Repeat([]byte(" "), p.pos-1-start))
		}
		return nil
	}
	scalar := pythonScalar.Find(p.text[p.pos:])
	if scalar == nil {
		return p.fail("Expecting value", p.pos)
	}
	p.pos += len(scalar)
	return nil
}

// members reads the rest of what c opened.
func (p *pythonJSON) members(c byte, depth int) error {
	end := c + 2 // in ASCII, of [ and { alike
	if p.space(); p.at() == end {
		p.pos++
		return nil
	}
	for {
		if c == '{' {
			if err := p.name(); err != nil {
				return err
			}
		}
		if err := p.value(depth + 1); err != nil {
			return err
		}
		switch p.space(); p.at() {
		case end:
			p.pos++
			return nil
		case ',':
			p.pos++
		default:
			return p.fail("Expecting ',' delimiter", p.pos)
		}
	}
}

func (p *pythonJSON) name() error {
	if p.space(); p.at() != '"' {
		return p.fail("Expecting property name enclosed in double quotes", p.pos)
	}
	if err := p.string(); err != nil {
		return err
	}
	if p.space(); p.at() != ':' {
		return p.fail("Expecting ':' delimiter", p.pos)
	}
	p.pos++
	return nil
}

var fourHexDigits = regexp.MustCompile(`^[0-9a-fA-F]{4}`)

func (p *pythonJSON) string() error {
	start := p.pos
	for i := start + 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.pos = i + 1
			return nil
		case c < ' ':
			return p.fail("Invalid control character at", i)
		case c != '\\' || i+1 == len(p.text):
		case p.text[i+1] == 'u':
			if !fourHexDigits.Match(p.text[i+2:]) {
				return p.fail(`Invalid \uXXXX escape`, i+1)
			}
			i += 5
		case strings.IndexByte(`"\/bfnrt`, p.text[i+1]) < 0:
			return p.fail(`Invalid \escape`, i)
		default:
			i++
		}
	}
	return p.fail("Unterminated string starting at", start)
}
