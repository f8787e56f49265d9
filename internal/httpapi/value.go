package httpapi

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry/feature"
)

// appendJSON reads one JSON value and appends it to a column of its type; null is
// a null. An error that is no *jsonscan.SyntaxError says what is wanted and what
// there is.
func appendJSON(s *jsonscan.Scanner, c *feature.Column) error {
	k, err := s.Peek()
	if err != nil {
		return err
	}
	if k == jsonscan.Null {
		if _, err := s.Null(); err != nil {
			return err
		}
		c.AppendNull()
		return nil
	}
	switch c.Type.Kind {
	case feature.Int64: // without a Value in between, as keys mostly are
		n, err := whole(s, k)
		if err != nil {
			return err
		}
		c.AppendBits(uint64(n)) //nolint:gosec // its bits
		return nil
	case feature.String: // so too
		b, err := s.Text()
		if err != nil {
			return kind(c.Type, err, k)
		}
		c.AppendBytes(b)
		return nil
	case feature.List:
		return appendList(s, c, k)
	case feature.Embedding:
		return appendEmbedding(s, c, k)
	}
	v, err := scalar(s, c.Type.Kind, k)
	if err != nil {
		return err
	}
	c.Append(v)
	return nil
}

// scalar reads a scalar that is not null. Text refers to the scanner's.
func scalar(s *jsonscan.Scanner, want feature.Kind, k jsonscan.Kind) (feature.Value, error) {
	t := feature.Type{Kind: want}
	switch want {
	case feature.Bool:
		b, err := s.Bool()
		return feature.OfBool(b), kind(t, err, k)
	case feature.Int64:
		n, err := whole(s, k)
		return feature.OfInt64(n), err
	case feature.Float64:
		f, err := float(s, t, k, 64)
		return feature.OfFloat64(f), err
	case feature.String:
		b, err := s.Text()
		return feature.OfString(string(b)), kind(t, err, k)
	case feature.Bytes:
		b, err := s.Text()
		if err != nil {
			return feature.Value{}, kind(t, err, k)
		}
		n, err := base64.StdEncoding.Strict().Decode(b, b) // in place: it is never longer
		if err != nil {
			return feature.Value{}, errors.New("want bytes as a string of padded base64")
		}
		return feature.OfBytes(b[:n]), nil
	case feature.Timestamp:
		b, err := s.Text()
		if err != nil {
			return feature.Value{}, kind(t, err, k)
		}
		micros, err := feature.ParseTimestamp(string(b))
		return feature.OfTimestamp(micros), err
	}
	return feature.Value{}, fmt.Errorf("a %s cannot be given", t)
}

// whole reads an int64.
func whole(s *jsonscan.Scanner, k jsonscan.Kind) (int64, error) {
	lit, err := s.Literal()
	if err != nil {
		return 0, kind(feature.TypeInt64, err, k)
	}
	n, err := jsonscan.ParseInt64(lit)
	if err != nil {
		return 0, fmt.Errorf("want an int64, got %s, which is %w", short(lit), err)
	}
	return n, nil
}

// float reads a number, or one of the strings that AppendJSON writes for floats that JSON has no number for.
func float(s *jsonscan.Scanner, t feature.Type, k jsonscan.Kind, bits int) (float64, error) {
	if k == jsonscan.String {
		b, err := s.Text()
		if err != nil {
			return 0, err
		}
		switch string(b) {
		case "NaN":
			return math.NaN(), nil
		case "Infinity":
			return math.Inf(1), nil
		case "-Infinity":
			return math.Inf(-1), nil
		}
		return 0, fmt.Errorf("want a %s, got the string %q", t, short(b))
	}
	lit, err := s.Literal()
	if err != nil {
		return 0, kind(t, err, k)
	}
	f, err := strconv.ParseFloat(string(lit), bits)
	if err != nil {
		return 0, fmt.Errorf("want a %s, got %s, which is out of range", t, short(lit))
	}
	return f, nil
}

func appendList(s *jsonscan.Scanner, c *feature.Column, k jsonscan.Kind) error {
	if err := s.OpenArray(); err != nil {
		return kind(c.Type, err, k)
	}
	vs := []feature.Value{}
	for {
		more, err := s.More()
		if err != nil {
			return err
		}
		if !more {
			c.Append(feature.OfList(c.Type.Elem, vs))
			return nil
		}
		e, err := s.Peek()
		if err != nil {
			return err
		}
		if e == jsonscan.Null {
			return fmt.Errorf("element %d is null, which a list cannot hold", len(vs)+1)
		}
		v, err := scalar(s, c.Type.Elem, e)
		if err != nil {
			return element(len(vs), err)
		}
		vs = append(vs, v.Clone())
	}
}

func appendEmbedding(s *jsonscan.Scanner, c *feature.Column, k jsonscan.Kind) error {
	if err := s.OpenArray(); err != nil {
		return kind(c.Type, err, k)
	}
	fs := make([]float32, 0, c.Type.Dim)
	for {
		more, err := s.More()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		e, err := s.Peek()
		if err != nil {
			return err
		}
		f, err := float(s, feature.TypeFloat64, e, 32)
		if err != nil {
			return element(len(fs), err)
		}
		if len(fs) == c.Type.Dim {
			return fmt.Errorf("want %d numbers, got more", c.Type.Dim)
		}
		fs = append(fs, float32(f))
	}
	if len(fs) != c.Type.Dim {
		return fmt.Errorf("want %d numbers, got %d", c.Type.Dim, len(fs))
	}
	c.Append(feature.OfEmbedding(fs))
	return nil
}

func element(i int, err error) error {
	var syntax *jsonscan.SyntaxError
	if errors.As(err, &syntax) {
		return err
	}
	return fmt.Errorf("element %d: %w", i+1, err)
}

// kind says what was wanted where another kind of value is; other errors stay as they are.
func kind(t feature.Type, err error, got jsonscan.Kind) error {
	if err == nil || !errors.Is(err, jsonscan.ErrKind) {
		return err
	}
	switch t.Kind {
	case feature.Bytes:
		return fmt.Errorf("want bytes as a base64 string, got %s", got)
	case feature.Timestamp:
		return fmt.Errorf("want a timestamp as a string such as \"2006-01-02T15:04:05Z\", got %s", got)
	case feature.Int64:
		return fmt.Errorf("want an int64, got %s", got)
	}
	return fmt.Errorf("want a %s, got %s", t, got)
}
