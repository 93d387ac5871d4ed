package engines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaConfig describes a broker.
type KafkaConfig struct {
	// Users are who may speak to it, by SASL with SCRAM-SHA-256 or -512, and their passwords. None: anybody.
	Users map[string]string
	// TLS has clients speak TLS, and trust the authority of Kafka.Certificates.
	TLS bool
	// Expired has the broker show a certificate that was good until an hour ago; it goes with TLS.
	Expired bool
	// ClientCertificates demands one of every client; it goes with TLS.
	ClientCertificates bool
	// Properties are added to the broker's own, and win.
	Properties map[string]string
}

// Kafka is a broker with its controller, in a process of its own. Its methods are for the test's goroutine.
type Kafka struct {
	cfg   KafkaConfig
	java  java
	dir   string
	life  *os.File // the janitor comes when this is closed, by nobody but the end of the process
	ports [3]int   // of clients, of the controller, and of the broker itself where clients need a password
	certs Certificates
	proc  *process
	names atomic.Int64
}

// shared is the one broker of the process.
var shared = sync.OnceValues(func() (*Kafka, error) {
	dir, err := os.MkdirTemp("", "holdfast-kafka-")
	if err != nil {
		return nil, err
	}
	life, err := janitor(dir)
	if err != nil {
		return nil, err
	}
	k, err := newKafka(KafkaConfig{}, dir)
	if err != nil {
		_ = life.Close()
		return nil, err
	}
	k.life = life
	return k, k.start()
})

// SharedKafka returns the broker that the tests of a process share, each with a Prefix of its own. It runs
// until the process ends, and nobody may stop it.
func SharedKafka(t testing.TB) *Kafka {
	t.Helper()
	SkipIfEmbedded(t)
	k, err := shared()
	need(t, err)
	return k
}

// StartKafka starts a broker for one test, which may do with it as it likes. It costs seconds.
func StartKafka(t testing.TB, cfg KafkaConfig) *Kafka {
	t.Helper()
	SkipIfEmbedded(t)
	k, err := newKafka(cfg, t.TempDir())
	need(t, err)
	t.Cleanup(func() {
		if err := k.proc.end(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the broker's log:\n%s", k.log())
		}
	})
	k.Start(t)
	return k
}

// Addrs returns where clients find it. They are the same after every Start.
func (k *Kafka) Addrs() []string { return []string{address(k.ports[0])} }

// Certificates returns what a client of a broker with TLS needs.
func (k *Kafka) Certificates() Certificates { return k.certs }

// Prefix returns a prefix for names of topics and groups that no other test of this process has.
func (k *Kafka) Prefix() string { return fmt.Sprintf("t%d-", k.names.Add(1)) }

// Pid returns its process.
func (k *Kafka) Pid() int { return k.proc.cmd.Process.Pid }

// Start starts it, on the same files and ports if it ran before, and waits until it takes in requests.
func (k *Kafka) Start(t testing.TB) {
	t.Helper()
	if err := k.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop has it end in order.
func (k *Kafka) Stop(t testing.TB) { t.Helper(); k.end(t, syscall.SIGTERM) }

// Kill ends it at once, as a crash of the process does.
func (k *Kafka) Kill(t testing.TB) { t.Helper(); k.end(t, syscall.SIGKILL) }

// Pause has it do nothing until Resume, with its connections open: a machine that hangs.
func (k *Kafka) Pause(t testing.TB) { t.Helper(); k.signal(t, syscall.SIGSTOP) }

// Resume ends a Pause.
func (k *Kafka) Resume(t testing.TB) { t.Helper(); k.signal(t, syscall.SIGCONT) }

func (k *Kafka) end(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := k.proc.end(sig); err != nil {
		t.Fatal(err)
	}
}

func (k *Kafka) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := k.proc.signal(sig); err != nil {
		t.Fatal(err)
	}
}

// newKafka prepares the files of a broker.
func newKafka(cfg KafkaConfig, dir string) (*Kafka, error) {
	j, err := findJava()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	k := &Kafka{cfg: cfg, java: j, dir: dir, ports: [3]int(ports)}
	if cfg.TLS {
		if k.certs, err = makeCertificates(dir, cfg.Expired); err != nil {
			return nil, fmt.Errorf("Kafka for tests: certificates: %w", err)
		}
	}
	if err := k.write(); err != nil {
		return nil, fmt.Errorf("Kafka for tests: %w", err)
	}
	args := []string{"format", "-t", "aG9sZGZhc3QtdGVzdHM0MQ", "-c", k.file("server.properties")}
	for name, password := range cfg.Users {
		for _, mechanism := range mechanisms {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, name, password))
		}
	}
	if out, err := k.command("kafka.tools.StorageTool", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("Kafka for tests: format its directory: %w\n%s", err, out)
	}
	return k, nil
}

func (k *Kafka) command(class string, args ...string) *exec.Cmd {
	cmd := k.java.command(k.file("log4j.properties"), class, args...)
	cmd.Dir = k.dir
	return cmd
}

func (k *Kafka) file(name string) string { return filepath.Join(k.dir, name) }

func (k *Kafka) log() string {
	b, _ := os.ReadFile(k.file("log")) // nothing, where there is none
	return string(bytes.TrimSpace(b))
}

func (k *Kafka) start() error {
	if k.proc.running() {
		return errors.New("Kafka for tests: it runs already")
	}
	log, err := os.OpenFile(k.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := k.command("kafka.Kafka", k.file("server.properties"))
	cmd.Stdout, cmd.Stderr = log, log
	if k.proc, err = launch(cmd); err != nil {
		return fmt.Errorf("Kafka for tests: %w", err)
	}
	return k.waitReady()
}

// waitReady asks it until it answers on the listener that needs no password.
func (k *Kafka) waitReady() error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address(k.ports[k.inner()])), kgo.RetryTimeout(time.Second), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := k.ping(ctx, cl)
		if err == nil {
			return nil
		}
		select {
		case <-k.proc.done:
			return fmt.Errorf("Kafka for tests ended by itself:\n%s", k.log())
		case <-ctx.Done():
			return fmt.Errorf("Kafka for tests does not answer: %w\n%s", err, k.log())
		case <-tick.C:
		}
	}
}

func (k *Kafka) ping(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return cl.Ping(ctx)
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// joined is a list as Kafka's properties want it.
func joined(values ...string) string { return strings.Join(values, ",") }
