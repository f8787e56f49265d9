package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/registry"
)

// embeddedListen is where the in-process Kafka listens: on a free port, which
// the data folder keeps for the next time.
const embeddedListen = "127.0.0.1:0"

// kafkaCluster opens Kafka: the environment's own, or the one in process with its
// data in the folder. That runs in whoever opens it first, and others use it by
// the address that the folder tells.
func (a *App) kafkaCluster() (*kafka.Cluster, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, errClosed
	}
	if a.kafka != nil {
		return a.kafka, nil
	}
	s := a.env.Stream
	if s == nil {
		return nil, &Error{
			Code: codeBadEnvironment,
			Err:  fmt.Errorf("environment %s has no stream", a.env.Name),
			Hint: `Declare one in forebay.yaml: stream: {brokers: ["host:9092"]}.`,
		}
	}
	wrong := func(err error) error {
		return &Error{Code: codeBadEnvironment, Err: fmt.Errorf("environment %s: stream: %w", a.env.Name, err)}
	}
	secure, err := s.TLS.Config()
	if err != nil {
		return nil, wrong(err)
	}
	cfg := kafka.Config{Brokers: s.Brokers, TLS: secure, Logger: a.log, SessionTimeout: a.session}
	if s.SASL != nil {
		cfg.SASL = kafka.SASL{Mechanism: s.SASL.Mechanism, Username: s.SASL.Username, Password: string(s.SASL.Password)}
	}
	if s.SchemaRegistry != "" {
		if cfg.SchemaRegistry, err = kafka.NewSchemaRegistry(string(s.SchemaRegistry)); err != nil {
			return nil, wrong(err)
		}
	}
	if s.Embedded {
		address, err := a.embeddedKafka()
		if err != nil {
			return nil, err
		}
		cfg.Brokers = []string{address}
	}
	c, err := kafka.New(cfg)
	if err != nil {
		return nil, wrong(err)
	}
	a.kafka = c
	a.opened = append(a.opened, closer(func() error { c.Close(); return nil }))
	return c, nil
}

// embeddedKafka is the address of the in-process Kafka, started here unless
// another process runs it. a.mu is held.
func (a *App) embeddedKafka() (string, error) {
	for {
		b, err := kafka.Embedded(a.env.Stream.Path, embeddedListen, nil)
		if err == nil {
			a.broker = b
			a.opened = append(a.opened, b)
			return b.Addr(), nil
		}
		if !errors.Is(err, kafka.ErrEmbeddedHeld) {
			return "", err
		}
		if address, ok := kafka.FindEmbedded(a.env.Stream.Path); ok {
			return address, nil
		}
		// It has just ended: try again.
	}
}

// kafkaFor opens Kafka for the topics of sources. In the in-process one they are
// made if they are not there: there is nobody else to make them.
func (a *App) kafkaFor(ctx context.Context, sources []*registry.Source) (*kafka.Cluster, error) {
	c, err := a.kafkaCluster()
	if err != nil {
		return nil, err
	}
	if !a.env.Stream.Embedded {
		return c, nil
	}
	for _, s := range sources {
		if s.Kafka == nil {
			continue
		}
		if err := c.CreateTopic(ctx, s.Kafka.Topic, kafka.EmbeddedPartitions); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// kafkaError adds to a failure of Kafka what to look at.
func (a *App) kafkaError(err error) error {
	if a.env.Stream == nil || a.env.Stream.Embedded {
		return err
	}
	return unavailable(err, fmt.Sprintf("Is Kafka running at %s? That is stream.brokers of environment %s in forebay.yaml.", strings.Join(a.env.Stream.Brokers, ", "), a.env.Name))
}

// lagTimeout bounds how long status waits for Kafka.
const lagTimeout = 2 * time.Second

// ends are, per partition of a source's topic, the offset after its last record; nil if
// Kafka does not tell in a moment.
func (a *App) ends(ctx context.Context, src *registry.Source) map[int32]int64 {
	if s := a.env.Stream; s == nil || src.Kafka == nil {
		return nil
	} else if s.Embedded {
		if _, running := kafka.FindEmbedded(s.Path); !running && a.broker == nil {
			return nil
		}
	}
	c, err := a.kafkaCluster()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	ends, err := c.Ends(ctx, src.Kafka.Topic)
	if err != nil {
		return nil
	}
	return ends
}

// embeddedAddress is the address of the in-process Kafka that is open.
func (a *App) embeddedAddress() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broker != nil {
		return a.broker.Addr(), nil
	}
	if address, ok := kafka.FindEmbedded(a.env.Stream.Path); ok {
		return address, nil
	}
	return "", fmt.Errorf("the in-process Kafka of %s has ended", a.env.Stream.Path)
}
