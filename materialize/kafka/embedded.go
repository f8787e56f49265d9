package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// EmbeddedBroker is a Kafka in this process (franz-go's kfake) with its data in a
// folder: for development and the demo only. It speaks Kafka's protocol on a port, so that any
// client may produce and consume, and creates topics when they are first written.
//
// The folder has a file "owner", locked while the broker runs: the process id
// and the address, by which other processes find it ([FindEmbedded]).
type EmbeddedBroker struct {
	addr    string
	cluster *kfake.Cluster
	lock    *os.File
	closed  sync.Once
}

// ErrEmbeddedHeld is returned by [Embedded] while another process has the folder. The message says which one, and its address.
var ErrEmbeddedHeld = errors.New("the embedded Kafka's folder is held by another process")

const (
	embeddedOwner = "owner"
	embeddedData  = "data"
)

// EmbeddedPartitions is the number of partitions of a topic that is created by its first use.
const EmbeddedPartitions = 4

// Embedded starts a Kafka in process with its data in dir, listening on addr
// (host:port; port 0 for a free one, which is kept for the folder if it is free the next time).
func Embedded(dir, addr string, log *slog.Logger) (*EmbeddedBroker, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("embedded kafka: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, embeddedOwner), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("embedded kafka: %w", err)
	}
	err = lockFile(lock)
	for try := 0; errors.Is(err, errLocked) && try < 5; try++ {
		time.Sleep(10 * time.Millisecond) // FindEmbedded holds the lock for a moment
		err = lockFile(lock)
	}
	if err != nil {
		_ = lock.Close()
		if pid, at, ok := readOwner(dir); ok && errors.Is(err, errLocked) {
			return nil, fmt.Errorf("%w: %s, process %d, at %s", ErrEmbeddedHeld, dir, pid, at)
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrEmbeddedHeld, dir, err)
	}
	b := &EmbeddedBroker{lock: lock}
	if err := b.start(dir, addr); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("embedded kafka in %s: %w", dir, err)
	}
	log.Warn("the embedded Kafka is for development only: one process, no replicas", "address", b.addr, "folder", dir)
	return b, nil
}

func (b *EmbeddedBroker) start(dir, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: want host:port: %w", addr, err)
	}
	if _, last, ok := readOwner(dir); ok && port == "0" {
		if lastHost, lastPort, err := net.SplitHostPort(last); err == nil && lastHost == host {
			port = lastPort
		}
	}
	var listen net.ListenConfig
	l, err := listen.Listen(context.Background(), "tcp", net.JoinHostPort(host, port))
	if err != nil && strings.HasSuffix(addr, ":0") {
		l, err = listen.Listen(context.Background(), "tcp", addr)
	}
	if err != nil {
		return err
	}
	b.addr = l.Addr().String()
	b.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DataDir(filepath.Join(dir, embeddedData)),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return l, nil }),
		kfake.AllowAutoTopicCreation(),
		kfake.DefaultNumPartitions(EmbeddedPartitions),
		// Events of years ago are kept too.
		kfake.BrokerConfigs(map[string]string{"log.retention.ms": "-1"}),
	)
	if err != nil {
		_ = l.Close()
		return err
	}
	owner := fmt.Sprintf("%d\n%s\n", os.Getpid(), b.addr)
	if err = b.lock.Truncate(0); err == nil {
		_, err = b.lock.WriteAt([]byte(owner), 0)
	}
	if err != nil {
		b.cluster.Close()
		return err
	}
	return nil
}

// Addr is the bootstrap address, host:port.
func (b *EmbeddedBroker) Addr() string { return b.addr }

// Close writes everything to the folder and ends the broker. It may be called more than once.
func (b *EmbeddedBroker) Close() error {
	var err error
	b.closed.Do(func() {
		b.cluster.Close()
		// The file stays: removing it would let two processes lock different files of the same name.
		err = b.lock.Close()
	})
	return err
}

// FindEmbedded is the address of the embedded Kafka that some process runs on dir; ok is false if none does.
func FindEmbedded(dir string) (addr string, ok bool) {
	f, err := os.Open(filepath.Join(dir, embeddedOwner))
	if err != nil {
		return "", false
	}
	defer f.Close()
	if err := lockFile(f); err == nil || !errors.Is(err, errLocked) {
		return "", false // nobody holds it; the lock goes with the file
	}
	_, addr, ok = readOwner(dir)
	return addr, ok
}

func readOwner(dir string) (pid int, addr string, ok bool) {
	text, err := os.ReadFile(filepath.Join(dir, embeddedOwner))
	if err != nil {
		return 0, "", false
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if pid, err = strconv.Atoi(string(first)); err != nil {
		return 0, "", false
	}
	return pid, strings.TrimSpace(string(rest)), true
}

// errLocked: another process, or this one, holds the lock.
var errLocked = errors.New("the file is locked")
