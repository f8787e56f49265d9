//go:build unix

package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// KafkaEnv names the variable that makes [Kafka] use brokers that run already:
// a comma-separated list of addresses.
const KafkaEnv = "FOREBAY_TEST_KAFKA"

// Brokers is a Kafka cluster (KRaft) on 127.0.0.1.
type Brokers struct {
	dir     string
	nodes   []*broker
	addrs   []string
	reaper  *reaper
	stopped sync.Once
}

type broker struct {
	id   int
	port int
	dir  string
	cmd  *exec.Cmd
}

var shared struct {
	once    sync.Once
	brokers *Brokers
	err     error
}

// Kafka is a cluster of one broker that every test of the process shares, or the one that
// FOREBAY_TEST_KAFKA names, which packages share as well. Tests must not share topics or
// groups: see [Brokers.Topic]. Take goleak.IgnoreCurrent after it.
func Kafka(t testing.TB) *Brokers {
	t.Helper()
	shared.once.Do(func() {
		if addrs := os.Getenv(KafkaEnv); addrs != "" {
			shared.brokers = &Brokers{addrs: strings.Split(addrs, ",")}
			return
		}
		shared.brokers, shared.err = StartKafka(1)
	})
	return must(t, shared.brokers, shared.err)
}

// KafkaCluster is a cluster of n brokers of the test's own, which may be killed
// and revived. Topics are replicated to three of them where there are three.
func KafkaCluster(t testing.TB, n int) *Brokers {
	t.Helper()
	b, err := StartKafka(n)
	must(t, b, err)
	t.Cleanup(b.Stop)
	return b
}

func must(t testing.TB, b *Brokers, err error) *Brokers {
	t.Helper()
	var lacks *lacking
	if errors.As(err, &lacks) {
		missing(t, lacks.what, lacks.install)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lacking is a program that Kafka needs and that is not installed.
type lacking struct{ what, install string }

func (l *lacking) Error() string { return l.what + " is missing: " + l.install }

func kafkaJars() (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", &lacking{"Java 17 (for Kafka)", "apt-get install openjdk-17-jre-headless"}
	}
	_, file, _, _ := runtime.Caller(0)
	var stderr strings.Builder
	cmd := exec.Command(filepath.Join(filepath.Dir(file), "kafka-jars.sh"))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if _, noMaven := exec.LookPath("mvn"); noMaven != nil {
			return "", &lacking{"Maven (fetches Kafka's jars once)", "apt-get install maven"}
		}
		return "", &lacking{"Kafka", fmt.Sprintf("its jars could not be fetched from Maven Central (%v): %s", err, strings.TrimSpace(stderr.String()))}
	}
	return strings.TrimSpace(string(out)), nil
}

// StartKafka starts a cluster of n brokers, for who is not a test. It ends with Stop, or with the process.
func StartKafka(n int) (*Brokers, error) {
	libs, err := kafkaJars()
	if err != nil {
		return nil, err
	}
	// A port that was free may be taken by somebody else before the broker has it.
	for attempt := 0; ; attempt++ {
		b, err := startKafka(libs, n)
		if err == nil || attempt == 2 {
			return b, err
		}
	}
}

func startKafka(libs string, n int) (_ *Brokers, err error) {
	dir, err := os.MkdirTemp("", "forebay-kafka-")
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	b := &Brokers{dir: dir}
	if b.reaper, err = startReaper(dir); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("kafka: %w", err)
	}
	defer func() {
		if err != nil {
			b.Stop()
		}
	}()
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	var voters []string
	for i := range n {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*i+1]))
		b.addrs = append(b.addrs, "127.0.0.1:"+strconv.Itoa(ports[2*i]))
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	clusterID := base64.RawURLEncoding.EncodeToString(id[:])
	for i := range n {
		node := &broker{id: i + 1, port: ports[2*i], dir: filepath.Join(dir, strconv.Itoa(i+1))}
		if err := os.Mkdir(node.dir, 0o700); err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		replicas, inSync := min(n, 3), 1
		if n >= 3 {
			inSync = 2
		}
		properties := fmt.Sprintf(kafkaProperties, node.id, strings.Join(voters, ","), node.port, ports[2*i+1], node.dir, replicas, inSync)
		if err := os.WriteFile(filepath.Join(node.dir, "server.properties"), []byte(properties), 0o600); err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		b.nodes = append(b.nodes, node)
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, node := range b.nodes {
		wg.Go(func() {
			format := java(libs, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", clusterID, "-c", filepath.Join(node.dir, "server.properties"))
			if out, err := format.CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("kafka: format the folder of broker %d: %w: %s", node.id, err, out)
				return
			}
			errs[i] = node.start(libs)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b, b.ready(b.nodes...)
}

const kafkaProperties = `process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
listeners=PLAINTEXT://127.0.0.1:%[3]d,CONTROLLER://127.0.0.1:%[4]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[3]d
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[5]s/data
auto.create.topics.enable=false
default.replication.factor=%[6]d
min.insync.replicas=%[7]d
offsets.topic.replication.factor=%[6]d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=%[6]d
transaction.state.log.min.isr=%[7]d
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=%[6]d
share.coordinator.state.topic.min.isr=%[7]d
group.initial.rebalance.delay.ms=0
log.segment.bytes=67108864
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=16777216
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
broker.session.timeout.ms=6000
`

func java(libs string, args ...string) *exec.Cmd {
	cmd := exec.Command("java", append([]string{"-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(libs, "*")}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func (n *broker) start(libs string) error {
	logs, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer logs.Close()
	cmd := java(libs, "kafka.Kafka", filepath.Join(n.dir, "server.properties"))
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("kafka: start broker %d: %w", n.id, err)
	}
	n.cmd = cmd
	return os.WriteFile(filepath.Join(n.dir, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

// reaper is a shell that waits until this process closes its end of a pipe, on
// purpose or by dying, and then kills the brokers and removes their folder.
type reaper struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

func startReaper(dir string) (*reaper, error) {
	cmd := exec.Command("sh", "-c", `cat >/dev/null; for f in "$0"/*/pid; do [ -f "$f" ] && kill -s KILL -- "-$(cat "$f")" 2>/dev/null; done; rm -rf "$0" || { sleep 1; rm -rf "$0"; }`, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &reaper{cmd, pipe}, nil
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// ready waits until the nodes answer and are members of the cluster.
func (b *Brokers) ready(nodes ...*broker) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...))
	if err != nil {
		return err
	}
	defer cl.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		// Not through kadm, which answers from the client's cache.
		if m, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl); err == nil {
			up := 0
			for _, n := range nodes {
				for _, have := range m.Brokers {
					if have.NodeID == int32(n.id) {
						up++
					}
				}
			}
			if up == len(nodes) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(nodes[0].dir, "log"))
			return fmt.Errorf("kafka: broker %d is not up after a minute; the end of its log:\n%s", nodes[0].id, log[max(0, len(log)-4000):])
		}
	}
}

// Addrs are the bootstrap addresses, host:port.
func (b *Brokers) Addrs() []string { return b.addrs }

// Kill ends broker n, counted from 1, as kill -9 does. Its data stays.
func (b *Brokers) Kill(t testing.TB, n int) {
	t.Helper()
	node := b.nodes[n-1]
	if err := node.cmd.Process.Kill(); err != nil {
		t.Fatalf("kafka: kill broker %d: %v", n, err)
	}
	_ = node.cmd.Wait() // "signal: killed"
	_ = os.Remove(filepath.Join(node.dir, "pid"))
}

// Pause stops the process of broker n: connections stay open and nothing answers. It goes on when
// resume is called, or the test ends.
func (b *Brokers) Pause(t testing.TB, n int) (resume func()) {
	t.Helper()
	node := b.nodes[n-1]
	if err := node.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("kafka: pause broker %d: %v", n, err)
	}
	resume = sync.OnceFunc(func() { _ = node.cmd.Process.Signal(syscall.SIGCONT) })
	t.Cleanup(resume)
	return resume
}

// Revive starts broker n again, on its old port and data, and waits until it is back in the cluster.
func (b *Brokers) Revive(t testing.TB, n int) {
	t.Helper()
	libs, err := kafkaJars()
	must(t, b, err)
	must(t, b, b.nodes[n-1].start(libs))
	must(t, b, b.ready(b.nodes[n-1]))
}

// Stop ends the brokers and removes their data. It may be called more than once.
func (b *Brokers) Stop() {
	b.stopped.Do(func() {
		if b.reaper == nil {
			return
		}
		_ = b.reaper.pipe.Close()
		for _, n := range b.nodes {
			if n.cmd != nil {
				_ = n.cmd.Wait() // "signal: killed"
			}
		}
		_ = b.reaper.cmd.Wait()
	})
}

// Client is a client of the brokers that is closed with the test.
func (b *Brokers) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.addrs...)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.CloseAllowingRebalance)
	return cl
}

// Name makes a name for a topic or a group that no other test has.
func (b *Brokers) Name(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
			return r
		}
		return '-'
	}, t.Name())
	return name[:min(len(name), 100)] + "-" + strings.ToLower(rand.Text()[:8])
}

// Topic creates a topic with a name of its own, deleted with the test. configs
// are the topic's, "retention.ms=1000".
func (b *Brokers) Topic(t testing.TB, partitions int, configs ...string) string {
	t.Helper()
	name := b.Name(t)
	b.CreateTopic(t, name, partitions, configs...)
	return name
}

// CreateTopic creates a topic, deleted with the test.
func (b *Brokers) CreateTopic(t testing.TB, name string, partitions int, configs ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	values := map[string]*string{}
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		values[k] = &v
	}
	adm := kadm.NewClient(b.Client(t))
	if _, err := adm.CreateTopic(ctx, int32(partitions), -1, values, name); err != nil {
		t.Fatalf("kafka: create topic %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, _ = adm.DeleteTopic(ctx, name) // the cluster may be gone with its data
	})
}

// Produce writes records and waits until they are all acknowledged; they carry
// their partition and offset then. A record's Partition is kept to.
func (b *Brokers) Produce(t testing.TB, records ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatalf("kafka: produce: %v", err)
	}
}
