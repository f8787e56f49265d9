package kafka

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// SchemaRegistry reads schemas from a Confluent schema registry, or one that
// speaks its HTTP. It is safe for concurrent use.
type SchemaRegistry struct {
	url string
	cl  *sr.Client

	mu      sync.Mutex
	schemas map[int]*writerSchema
}

// writerSchema is a schema as the registry has it; or the lack of one.
type writerSchema struct {
	schema *avro.Schema // nil if refused is set
	// refused says why records of the schema are dead letters.
	refused *refusal
	until   time.Time // when to ask again; zero: never, schemas do not change
}

// NewSchemaRegistry makes a client of the registry at a URL, which may hold a user
// and a password for basic authentication; messages show neither.
func NewSchemaRegistry(address string) (*SchemaRegistry, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the schema registry's URL cannot be read") // the cause would show it whole
	}
	user := u.User
	u.User = nil
	opts := []sr.ClientOpt{sr.URLs(u.String()), sr.UserAgent("forebay"), sr.HTTPClient(&http.Client{Timeout: 5 * time.Second})}
	if user != nil {
		password, _ := user.Password()
		opts = append(opts, sr.BasicAuth(user.Username(), password))
	}
	cl, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("schema registry %s: %w", u, err)
	}
	return &SchemaRegistry{url: u.String(), cl: cl, schemas: map[int]*writerSchema{}}, nil
}

// ping returns nil if the registry answers.
func (r *SchemaRegistry) ping(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := r.cl.SupportedTypes(ctx)
	if response := (*sr.ResponseError)(nil); errors.As(err, &response) && response.StatusCode == http.StatusNotFound {
		return nil // it answers; not every registry has this page
	}
	return r.wrap(err)
}

// wrap makes errors that may pass by themselves ErrUnavailable.
func (r *SchemaRegistry) wrap(err error) error {
	if err == nil {
		return nil
	}
	var response *sr.ResponseError
	if errors.As(err, &response) && response.StatusCode < 500 && response.StatusCode != http.StatusTooManyRequests {
		return fmt.Errorf("schema registry %s: %w", r.url, err)
	}
	return fmt.Errorf("schema registry %s: %w: %w", r.url, materialize.ErrUnavailable, err)
}

// A schema that the registry does not know is asked for a few times, since registries
// replicate, and then its records are refused for a while.
const (
	unknownTries = 4
	unknownPause = 250 * time.Millisecond
	unknownKept  = 30 * time.Second
)

// schema is the schema of an ID.
func (r *SchemaRegistry) schema(id int, timeout time.Duration) (*writerSchema, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.schemas[id]; s != nil && (s.until.IsZero() || time.Now().Before(s.until)) {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var found sr.Schema
	for try := 1; ; try++ {
		var err error
		if found, err = r.cl.SchemaByID(ctx, id); err == nil {
			break
		}
		if !notFound(err) {
			return nil, r.wrap(err)
		}
		if try == unknownTries {
			r.schemas[id] = &writerSchema{refused: &refusal{materialize.ReasonUnknownSchema, fmt.Sprintf("schema registry %s does not know schema %d", r.url, id)}, until: time.Now().Add(unknownKept)}
			return r.schemas[id], nil
		}
		timer := time.NewTimer(unknownPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, r.wrap(ctx.Err())
		}
	}
	s := &writerSchema{}
	var err error
	if found.Type != sr.TypeAvro {
		err = fmt.Errorf("it is %s, not avro", found.Type)
	} else {
		s.schema, err = r.parse(ctx, found, &avro.SchemaCache{}, 0)
		if errors.Is(err, materialize.ErrUnavailable) {
			return nil, err
		}
	}
	if err != nil {
		s.refused = &refusal{materialize.ReasonBadSchema, fmt.Sprintf("schema %d: %v", id, err)}
	}
	r.schemas[id] = s
	return s, nil
}

// parse parses a schema after those that it refers to.
func (r *SchemaRegistry) parse(ctx context.Context, s sr.Schema, cache *avro.SchemaCache, depth int) (*avro.Schema, error) {
	if depth > maxAvroDepth {
		return nil, errors.New("its references go too deep")
	}
	for _, ref := range s.References {
		other, err := r.cl.SchemaByVersion(ctx, ref.Subject, ref.Version)
		if err != nil {
			return nil, fmt.Errorf("reference %s (%s, version %d): %w", ref.Name, ref.Subject, ref.Version, r.wrap(err))
		}
		if _, err := r.parse(ctx, other.Schema, cache, depth+1); err != nil {
			return nil, fmt.Errorf("reference %s: %w", ref.Name, err)
		}
	}
	return cache.Parse(s.Schema)
}

func notFound(err error) bool {
	var response *sr.ResponseError
	return errors.As(err, &response) && response.StatusCode == http.StatusNotFound
}

// decoder makes a decoder of a source's Avro records in Confluent's framing: a zero
// byte, the schema's ID in four bytes (big-endian), the value.
func (r *SchemaRegistry) decoder(src *registry.Source, timeout time.Duration) decoder {
	programs := map[int]*avroProgram{}
	var header sr.ConfluentHeader
	return func(value []byte, b *feature.Batch) (*refusal, error) {
		id, body, err := header.DecodeID(value)
		if err != nil {
			return &refusal{materialize.ReasonMalformed, "the value does not begin with a zero byte and the ID of a schema"}, nil
		}
		program := programs[id]
		if program == nil {
			s, err := r.schema(id, timeout)
			if err != nil {
				return nil, err
			}
			if s.refused != nil {
				return s.refused, nil
			}
			if program, err = compileAvro(src, s.schema.Root()); err != nil {
				program = &avroProgram{refused: &refusal{materialize.ReasonBadSchema, fmt.Sprintf("schema %d: %v", id, err)}}
			}
			programs[id] = program
		}
		return program.append(body, b), nil
	}
}
