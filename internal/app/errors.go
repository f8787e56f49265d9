package app

import (
	"context"
	"errors"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/selection"
)

// Error is a failure that its reader can do something about.
type Error struct {
	Code string // stable, for programs; "" to take it from Err (see Code)
	Hint string // a sentence on what to do next; may be ""
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Codes of failures, as --json prints them. docs/cli.md lists them.
const (
	CodeFailed         = "failed"
	CodeNothingApplied = "nothing_applied"
	CodeConflict       = "conflict"
	CodeNoRevision     = "unknown_revision"
	CodeUnavailable    = "unavailable"
	CodeBlocked        = "blocking_findings"
	CodeUnknownSource  = "unknown_source"
	CodeUnknownView    = string(selection.UnknownView)
	CodeInterrupted    = "interrupted"
	CodeHeld           = "held"                // by another process
	CodeInvalid        = "invalid_definitions" // mistakes in the YAML

	codeNoRepository       = "no_repository"
	codeUnknownEnvironment = "unknown_environment"
	codeBadEnvironment     = "bad_environment"
)

// Code is the stable code of an error.
func Code(err error) string {
	var known *Error
	var request *selection.Error
	switch {
	case errors.As(err, &known) && known.Code != "":
		return known.Code
	case errors.As(err, &request):
		return string(request.Code)
	case errors.Is(err, registry.ErrConflict), errors.Is(err, offline.ErrConflict):
		return CodeConflict
	case errors.Is(err, registry.ErrNoRevision):
		return CodeNoRevision
	case errors.Is(err, online.ErrUnavailable), errors.Is(err, offline.ErrUnavailable), errors.Is(err, materialize.ErrUnavailable):
		return CodeUnavailable
	case errors.Is(err, context.Canceled):
		return CodeInterrupted
	}
	return CodeFailed
}
