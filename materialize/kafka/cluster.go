package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
)

// Config says how to reach Kafka.
type Config struct {
	// Brokers are bootstrap addresses, host:port.
	Brokers []string
	// TLS, if set, is used for every connection.
	TLS *tls.Config
	// SASL, if its Mechanism is set, authenticates every connection.
	SASL SASL
	// SchemaRegistry reads the schemas of Avro records; nil if there is none.
	SchemaRegistry *SchemaRegistry

	// Timeout bounds how long brokers may be away at the start, and each request afterwards. Default 15 s.
	Timeout time.Duration
	// WaitForTopics is how long Check waits for a topic that is not there. Default: not at all.
	WaitForTopics time.Duration
	// SessionTimeout is after how long without a heartbeat the group takes a member
	// for dead. Default 45 s, Kafka's own.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long a member may take to give partitions away. Default 60 s.
	RebalanceTimeout time.Duration
	// MetadataAge bounds how long a partition that was added stays unknown. Default 30 s.
	MetadataAge time.Duration
	// FetchBytes bounds what is fetched ahead from each broker, compressed. Default 16 MiB.
	FetchBytes int32

	// Now is the clock by which events are ahead of it; nil is time.Now.
	Now func() time.Time

	Logger *slog.Logger // nil: none
}

// SASL is a user and a password.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; "" for none
	Username  string
	Password  string
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "PLAIN":
		return plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("sasl mechanism %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", s.Mechanism)
}

// Cluster opens the topics of a Kafka cluster. It is safe for concurrent use.
type Cluster struct {
	cfg     Config
	opts    []kgo.Opt
	cl      *kgo.Client // for requests, and for dead letters
	brokers string
	log     *slog.Logger
	made    topicsMade // dead-letter topics
}

var _ materialize.Inputs = (*Cluster)(nil)

// New makes a Cluster; it connects when it is used first.
func New(cfg Config) (*Cluster, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("kafka: no brokers")
	}
	for _, b := range cfg.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return nil, fmt.Errorf("kafka: broker %q: want host:port", b)
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.SessionTimeout == 0 {
		cfg.SessionTimeout = 45 * time.Second
	}
	if cfg.RebalanceTimeout == 0 {
		cfg.RebalanceTimeout = time.Minute
	}
	if cfg.MetadataAge == 0 {
		cfg.MetadataAge = 30 * time.Second
	}
	if cfg.FetchBytes == 0 {
		cfg.FetchBytes = 16 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Cluster{cfg: cfg, brokers: strings.Join(cfg.Brokers, ","), log: cfg.Logger}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.opts = []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID("forebay"),
		kgo.SoftwareNameAndVersion("forebay", "1"),
		kgo.MinVersions(kversion.V2_1_0()),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.MetadataMaxAge(cfg.MetadataAge),
		kgo.AlwaysRetryEOF(), // a broker that is stopping or starting closes connections before its first answer
		kgo.WithLogger(logger{c.log}),
	}
	if cfg.TLS != nil {
		c.opts = append(c.opts, kgo.DialTLSConfig(cfg.TLS))
	}
	if cfg.SASL.Mechanism != "" {
		m, err := cfg.SASL.mechanism()
		if err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		c.opts = append(c.opts, kgo.SASL(m))
	}
	var err error
	c.cl, err = kgo.NewClient(append(slices.Clone(c.opts),
		kgo.RetryTimeout(cfg.Timeout),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedBytes(64<<20),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return c, nil
}

// Close ends the cluster's connections. Inputs have to be closed before.
func (c *Cluster) Close() { c.cl.Close() }

// Ping returns nil if a broker answers.
func (c *Cluster) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	return c.wrap(c.cl.Ping(ctx))
}

// wrap makes errors that may pass by themselves ErrUnavailable, with the addresses.
func (c *Cluster) wrap(err error) error {
	var network net.Error
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return err
	case kerr.IsRetriable(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries),
		kgo.IsRetryableBrokerErr(err), errors.As(err, &network):
		return fmt.Errorf("kafka at %s: %w: %w", c.brokers, materialize.ErrUnavailable, err)
	}
	return fmt.Errorf("kafka at %s: %w", c.brokers, err)
}

var errNoTopic = errors.New("there is no such topic")

// topic is the ID of a topic.
func (c *Cluster) topic(ctx context.Context, name string) (id kadm.TopicID, err error) {
	got, err := c.describe(ctx, name)
	return got.TopicID, err
}

// describe describes a topic as the brokers know it now (kadm would answer from a cache).
func (c *Cluster) describe(ctx context.Context, name string) (got kmsg.MetadataResponseTopic, err error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, c.cl)
	if err != nil {
		return got, c.wrap(err)
	}
	if len(resp.Topics) != 1 {
		return got, fmt.Errorf("kafka at %s: asked for topic %s, got %d topics", c.brokers, name, len(resp.Topics))
	}
	got = resp.Topics[0]
	switch err := kerr.ErrorForCode(got.ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return got, fmt.Errorf("topic %s: %w on %s; create it, or correct the source's topic", name, errNoTopic, c.brokers)
	case err != nil:
		return got, fmt.Errorf("topic %s: %w", name, c.wrap(err))
	}
	return got, nil
}

// Check implements [materialize.Inputs].
func (c *Cluster) Check(ctx context.Context, src *registry.Source) error {
	switch src.Kafka.Format {
	case "json":
	case "avro":
		if c.cfg.SchemaRegistry == nil {
			return fmt.Errorf("source %s is avro, and the environment names no schema registry: set stream.schema_registry", src.Name)
		}
		if err := c.cfg.SchemaRegistry.ping(ctx, c.cfg.Timeout); err != nil {
			return err
		}
	case "protobuf":
		return fmt.Errorf("source %s is protobuf, which this version cannot decode yet: use json or avro", src.Name)
	default:
		return fmt.Errorf("source %s has the unknown format %q: use json or avro", src.Name, src.Kafka.Format)
	}
	deadline := time.Now().Add(c.cfg.WaitForTopics)
	for {
		attempt, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		_, err := c.topic(attempt, src.Kafka.Topic)
		cancel()
		if !errors.Is(err, errNoTopic) || time.Now().After(deadline) {
			return err
		}
		c.log.Info("waiting for a topic", "topic", src.Kafka.Topic)
		timer := time.NewTimer(500 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// Partitions implements [materialize.Inputs].
func (c *Cluster) Partitions(ctx context.Context, topic string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	got, err := c.describe(ctx, topic)
	if errors.Is(err, errNoTopic) {
		return 0, nil
	}
	return len(got.Partitions), err
}

// offsets are the first offset of each partition, and the one after the last record that
// can be read (committed: of a finished transaction) or the one to be written next.
func (c *Cluster) offsets(ctx context.Context, topic string, committed bool) (map[int32]materialize.Partition, error) {
	adm := kadm.NewClient(c.cl)
	list := adm.ListEndOffsets
	if committed {
		list = adm.ListCommittedOffsets
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the first offsets of %s: %w", topic, c.wrap(err))
	}
	ends, err := list(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the last offsets of %s: %w", topic, c.wrap(err))
	}
	partitions := map[int32]materialize.Partition{}
	starts.Each(func(o kadm.ListedOffset) {
		if end, ok := ends.Lookup(topic, o.Partition); ok {
			partitions[o.Partition] = materialize.Partition{ID: o.Partition, Start: o.Offset, End: end.Offset}
		}
	})
	return partitions, nil
}

// logger gives what franz-go has to say to slog, one level quieter: what matters to a user is said by the stream.
type logger struct{ log *slog.Logger }

func (l logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

func (l logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Debug("kafka client: "+msg, append(keyvals, "level", level.String())...)
}
