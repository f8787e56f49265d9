package selection

import (
	"fmt"

	"github.com/forebay/forebay/registry/nearest"
)

// Code is the stable code of an Error.
type Code string

// What may be wrong with a request.
const (
	UnknownService Code = "unknown_service"
	UnknownView    Code = "unknown_view"
	UnknownFeature Code = "unknown_feature"
	BadReference   Code = "bad_reference"
	NameClash      Code = "name_clash"
	Empty          Code = "no_features"
	TypeClash      Code = "type_clash" // one column is wanted with two types
)

// Error is a mistake in a request.
type Error struct {
	Code Code
	Name string // the service, view, reference, output or column it is about
	Msg  string // the whole sentence, with a hint where there is one
}

func (e *Error) Error() string { return e.Msg }

func mistake(code Code, name, format string, args ...any) *Error {
	return &Error{Code: code, Name: name, Msg: fmt.Sprintf(format, args...)}
}

// hint ends a sentence about a name that does not exist with what was probably meant.
func hint(name string, known []string) string {
	if h := nearest.Hint(name, known); h != "" {
		return "; " + h
	}
	return ""
}
