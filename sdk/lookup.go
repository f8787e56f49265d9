package sdk

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// LookupRequest asks for features of entities, by a service or by references.
type LookupRequest struct {
	// Service names a feature service; leave Features empty then.
	Service string
	// Features are references: "view:feature", "view", "view@3:feature".
	Features []string
	// Entities are looked up one by one: the result has a row for each, in this order.
	Entities []Entity
	// FullNames calls features view__feature.
	FullNames bool
	// OmitStatuses and OmitEventTimes leave out what is not needed, for speed.
	OmitStatuses   bool
	OmitEventTimes bool
}

// Lookup reads the newest values of features of entities.
func (c *Client) Lookup(ctx context.Context, req LookupRequest) (*Result, error) {
	body, err := appendLookup(make([]byte, 0, 64+64*len(req.Entities)), &req)
	if err != nil {
		return nil, err
	}
	answer, err := c.post(ctx, api.PathFeatures, body, c.retries)
	if err != nil {
		return nil, err
	}
	res, err := decodeResult(answer)
	if err != nil {
		return nil, fmt.Errorf("sdk: the answer cannot be read: %w", err)
	}
	if res.Len() != len(req.Entities) {
		return nil, fmt.Errorf("sdk: the answer has %d rows for %d entities", res.Len(), len(req.Entities))
	}
	return res, nil
}

func appendLookup(dst []byte, req *LookupRequest) ([]byte, error) {
	switch {
	case req.Service == "" && len(req.Features) == 0:
		return nil, errors.New("sdk: the request names neither a Service nor Features")
	case req.Service != "" && len(req.Features) > 0:
		return nil, errors.New("sdk: the request names a Service and Features: one of them, please")
	case req.Service != "":
		dst = append(dst, `{"`+api.FieldService+`":`...)
		dst = feature.AppendStringJSON(dst, req.Service)
	default:
		dst = append(dst, `{"`+api.FieldFeatures+`":`...)
		dst = appendStrings(dst, req.Features)
	}
	if req.FullNames {
		dst = append(dst, `,"`+api.FieldFullNames+`":true`...)
	}
	var omit []string
	if req.OmitStatuses {
		omit = append(omit, api.FieldStatuses)
	}
	if req.OmitEventTimes {
		omit = append(omit, api.FieldEventTimestamps)
	}
	if omit != nil {
		dst = append(dst, `,"`+api.FieldOmit+`":`...)
		dst = appendStrings(dst, omit)
	}
	dst = append(dst, `,"`+api.FieldEntities+`":[`...)
	var names []string
	var err error
	for i, e := range req.Entities {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, names, err = appendObject(dst, e, names); err != nil {
			return nil, fmt.Errorf("sdk: Entities[%s].%w", strconv.Itoa(i), err)
		}
	}
	return append(dst, "]}"...), nil
}

func appendStrings(dst []byte, all []string) []byte {
	dst = append(dst, '[')
	for i, s := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = feature.AppendStringJSON(dst, s)
	}
	return append(dst, ']')
}
