package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/registry/spec"
)

var errInterrupted = errors.New("interrupted")

// failure is the JSON document of a command that failed.
type failure struct {
	Error failureBody `json:"error"`
}

type failureBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// Diagnostics are the mistakes in the YAML, where that is what is wrong.
	Diagnostics spec.Diagnostics `json:"diagnostics,omitempty"`
}

// finish reports a command's error, if any, and returns the exit code.
func (c *cli) finish(ctx context.Context, err error) int {
	var use *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.Is(err, errReported):
		return exitFailed
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		err = &app.Error{Code: app.CodeInterrupted, Err: errInterrupted}
	}
	c.report(err)
	switch {
	case errors.As(err, &use):
		return exitUsage
	case app.Code(err) == app.CodeBlocked:
		return exitFindings
	}
	return exitFailed
}

// report tells an error: as the JSON document, if none has been printed, else on stderr.
func (c *cli) report(err error) {
	body := describe(err)
	if c.json && !c.printed && c.document(failure{Error: body}) == nil {
		return
	}
	c.explain(body)
}

// explain tells an error to a person, on stderr.
func (c *cli) explain(body failureBody) {
	for _, d := range body.Diagnostics {
		_, _ = fmt.Fprintf(c.stderr, "%s: %s [%s]", c.paint(c.stderr, bold, d.Position.String()), d.Message, d.Code)
		if d.Hint != "" {
			_, _ = fmt.Fprintf(c.stderr, " (%s)", d.Hint)
		}
		_, _ = fmt.Fprintln(c.stderr)
	}
	_, _ = fmt.Fprintf(c.stderr, "%s %s\n", c.paint(c.stderr, red, "forebay:"), body.Message)
	if body.Hint != "" {
		_, _ = fmt.Fprintln(c.stderr, body.Hint)
	}
}

// describe is an error as it is told.
func describe(err error) failureBody {
	body := failureBody{Code: app.Code(err), Message: err.Error()}
	var use *usageError
	var known *app.Error
	switch {
	case errors.As(err, &use):
		body.Code, body.Hint = "usage", use.hint
	case errors.As(err, &known):
		body.Hint = known.Hint
	}
	if errors.As(err, &body.Diagnostics) {
		body.Message = plural(int64(len(body.Diagnostics)), "mistake") + " in the YAML"
	}
	return body
}
