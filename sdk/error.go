package sdk

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/forebay/forebay/internal/api"
)

// Error is an answer of the server that says what went wrong.
type Error struct {
	Code    string // stable: "unknown_service", "missing_key", "unavailable", …
	Message string // for people
	Field   string // the place in the request: "entities[3].origin"; or ""
	Status  int    // of HTTP
	// RequestID finds the request in the server's log.
	RequestID string
	// Rejected are the rows of a push that were wrong; then none was written.
	Rejected []RejectedRow
}

// RejectedRow is a row that a push could not take.
type RejectedRow struct {
	Row     int    // from 0, in the order given
	Field   string // or ""
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("forebay: %s (%s)", e.Message, e.Code)
}

// maxErrorBody is how much of an error's answer is read.
const maxErrorBody = 1 << 20

// errorOf reads the answer of a request that failed.
func errorOf(res *http.Response) error {
	e := &Error{Status: res.StatusCode, RequestID: res.Header.Get(api.HeaderRequestID)}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil {
		return fmt.Errorf("sdk: read the answer (%s): %w", res.Status, err)
	}
	var answer struct {
		api.ErrorBody
		api.PushAnswer
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Error.Code == "" {
		// A proxy, or something that is no Forebay.
		e.Code, e.Message = "http_"+fmt.Sprint(res.StatusCode), fmt.Sprintf("the server answered %s: %.200q", res.Status, body)
		return e
	}
	e.Code, e.Message, e.Field = answer.Error.Code, answer.Error.Message, answer.Error.Field
	for _, r := range answer.Rejected {
		e.Rejected = append(e.Rejected, RejectedRow(r))
	}
	return e
}
