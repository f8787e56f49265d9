package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/forebay/forebay/internal/api"
)

// PushResult says what a push did.
type PushResult struct {
	Accepted int // rows written
	// Later names the windowed views whose windows have the rows only when `forebay materialize`
	// has built them.
	Later []string
}

// Push writes rows of a source to the online and the offline store.
func (c *Client) Push(ctx context.Context, source string, rows []Values) (PushResult, error) {
	body := append(make([]byte, 0, 32+128*len(rows)), `{"`+api.FieldRows+`":[`...)
	var names []string
	var err error
	for i, row := range rows {
		if i > 0 {
			body = append(body, ',')
		}
		if body, names, err = appendObject(body, row, names); err != nil {
			return PushResult{}, fmt.Errorf("sdk: rows[%d].%w", i, err)
		}
	}
	body = append(body, "]}"...)
	answer, err := c.post(ctx, api.PathPush+url.PathEscape(source), body, 0)
	if err != nil {
		return PushResult{}, err
	}
	var pushed api.PushAnswer
	if err := json.Unmarshal(answer, &pushed); err != nil {
		return PushResult{}, fmt.Errorf("sdk: the answer cannot be read: %w", err)
	}
	return PushResult{Accepted: pushed.Accepted, Later: pushed.Later}, nil
}
