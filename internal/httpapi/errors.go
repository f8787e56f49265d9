package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/selection"
)

// statusClientGone is what a request is logged as whose client did not wait for the answer.
const statusClientGone = 499

// retryAfter is how many seconds a client is asked to wait where waiting may help.
const retryAfter = "1"

// failure is an error as it is answered.
type failure struct {
	status int
	wire   api.Error
	cause  error // for the log; nil where the message says all
	body   any   // of the answer; nil for an api.ErrorBody
}

func (f *failure) Error() string { return f.wire.Message }
func (f *failure) Unwrap() error { return f.cause }

// bad is a mistake in a request: status 400.
func bad(code, field, format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, wire: api.Error{Code: code, Field: field, Message: fmt.Sprintf(format, args...)}}
}

func failed(status int, code, format string, args ...any) *failure {
	return &failure{status: status, wire: api.Error{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// failureOf is the one place where errors get a status.
func failureOf(err error) *failure {
	var (
		known    *failure
		request  *selection.Error
		notFound *NotFoundError
		input    *InputError
		syntax   *jsonscan.SyntaxError
		routing  *echo.HTTPError
		tooLong  *http.MaxBytesError
		feast    *feastError
	)
	at := func(status int, code, message string) *failure {
		return &failure{status: status, wire: api.Error{Code: code, Message: message}, cause: err}
	}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &feast):
		return at(feast.status, api.CodeBadRequest, feast.message)
	case errors.As(err, &request):
		f := at(http.StatusBadRequest, string(request.Code), request.Msg)
		switch request.Code {
		case selection.UnknownService:
			f.status, f.wire.Field = http.StatusNotFound, api.FieldService
		case selection.UnknownView, selection.UnknownFeature:
			f.status, f.wire.Field = http.StatusNotFound, api.FieldFeatures
		case selection.BadReference, selection.NameClash, selection.Empty, selection.TypeClash:
			f.wire.Field = api.FieldFeatures
		}
		return f
	case errors.As(err, &notFound):
		return at(http.StatusNotFound, notFound.Code, notFound.Message)
	case errors.As(err, &input):
		f := at(http.StatusBadRequest, input.Code, input.Message)
		if f.wire.Field = input.Field; f.wire.Code == "" {
			f.wire.Code = api.CodeBadRequest
		}
		return f
	case errors.As(err, &syntax):
		return at(http.StatusBadRequest, api.CodeBadRequest, "the body is not JSON: "+syntax.Error())
	case errors.As(err, &tooLong):
		return at(http.StatusRequestEntityTooLarge, api.CodeTooLarge, fmt.Sprintf("the body has more than %d bytes", tooLong.Limit))
	case errors.Is(err, registry.ErrNoRevision):
		return at(http.StatusServiceUnavailable, api.CodeNoRevision, "nothing has been applied yet: run `forebay apply`")
	case errors.Is(err, online.ErrUnavailable):
		return at(http.StatusServiceUnavailable, api.CodeUnavailable, "the online store cannot be reached; try again later")
	case errors.Is(err, offline.ErrUnavailable):
		return at(http.StatusServiceUnavailable, api.CodeUnavailable, "the offline store cannot be reached; try again later")
	case errors.Is(err, online.ErrClosed), errors.Is(err, offline.ErrClosed):
		return at(http.StatusServiceUnavailable, api.CodeUnavailable, "the server is stopping")
	case errors.Is(err, offline.ErrConflict), errors.Is(err, registry.ErrConflict):
		return at(http.StatusConflict, api.CodeConflict, "somebody else wrote at the same time; try again")
	case errors.Is(err, context.DeadlineExceeded):
		return at(http.StatusGatewayTimeout, api.CodeDeadline, deadlineText)
	case errors.Is(err, context.Canceled):
		return at(statusClientGone, api.CodeCanceled, "the client went away")
	case errors.As(err, &routing):
		switch routing.Code {
		case http.StatusNotFound:
			return at(routing.Code, api.CodeNotFound, "no such path; /openapi.json lists them")
		case http.StatusMethodNotAllowed:
			return at(routing.Code, api.CodeMethodNotAllowed, "this path does not take that method; /openapi.json lists what it takes")
		}
	}
	return at(http.StatusInternalServerError, api.CodeInternal, "something went wrong in the server; its log says what, under this request's id")
}

const deadlineText = "the stores did not answer in time"

// within tells an error that came because the request's own time was over from
// the same error of a store: a store may call both unavailable.
func within(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	f := failureOf(ctx.Err())
	f.cause = err
	return f
}

// answer is how a route answers an error: its status and the JSON body.
type answer func(*failure) (status int, body any)

func plainError(f *failure) (int, any) {
	if f.body != nil {
		return f.status, f.body
	}
	return f.status, api.ErrorBody{Error: f.wire}
}
