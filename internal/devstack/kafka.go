package devstack

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// oldestJava is the lowest major version of Java that Kafka 4 runs on.
	oldestJava = 17
	// readyPoll is the pause between two questions to a starting server.
	readyPoll = 50 * time.Millisecond
)

//go:embed kafka/log4j2.properties
var kafkaLogging []byte

// KafkaConfig says where and how an Apache Kafka runs. The zero value is a throw-away server.
type KafkaConfig struct {
	// Dir holds the log directory, the configuration and the server's log, and is kept by Stop. Empty means
	// a temporary directory that Stop removes.
	Dir string
	// Port is the wanted port; 0 means any. A taken one is stepped over.
	Port int
	// Settings are server properties on top of the defaults, which they win over.
	Settings map[string]string
	// Secure adds a listener with TLS, SASL and access control; nil: none.
	Secure *KafkaSecurity
	// JVM are the options of the server's Java. Empty means a fast start, a heap that begins small, the quicker of
	// Java's two compilers alone, and a collector that stops everything for some milliseconds and takes no core of its
	// own: what tests want, and no benchmark does.
	JVM []string
	// Version is the Kafka to fetch and run, such as "3.9.1"; empty means the one that compose.yaml runs.
	Version string
	// CacheDir is where the fetched jars are kept; empty means CacheDir().
	CacheDir string
	// Progress is told about steps that take long; may be nil.
	Progress func(string)
}

// cache is where what is made once for all servers is kept.
func (c KafkaConfig) cache() string { return filepath.Join(cmp.Or(c.CacheDir, CacheDir()), "kafka") }

// Kafka is a running node of Apache Kafka (KRaft, no ZooKeeper), a direct child of this process: alone, or one of a
// cluster. Its methods may be called from several goroutines, one at a time for Stop, Kill and Restart.
type Kafka struct {
	server
	cfg        KafkaConfig
	jars       string
	classes    string // see kafkaClasses; empty with a JVM of the caller's
	port       int
	controller int
	secure     int
	seat       seat
}

// StartKafka starts a single node and returns when it takes requests, which takes some seconds; the first time for a
// user it fetches the jars with Maven. It ends a server that a crashed starter left in the directory. It fails without
// Java 17 and Maven, when another live process uses the directory, or when ctx ends first.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	nodes, err := StartKafkaCluster(ctx, cfg, 1)
	if err != nil {
		return nil, err
	}
	return nodes[0], nil
}

// prepare takes what a node needs before it is known who else is in the cluster. What it has taken before a fault is
// given back by the caller.
func (k *Kafka) prepare(ctx context.Context) (err error) {
	if k.jars, err = kafkaJars(ctx, k.cfg); err != nil {
		return err
	}
	if k.dir, err = takeWorkDir(ctx, nil, k.cfg.Dir, "kafka", k.cfg.Progress); err != nil {
		return err
	}
	if k.port, err = FreePort(k.cfg.Port); err != nil {
		return err
	}
	if k.controller, err = FreePort(0); err == nil && k.cfg.Secure != nil {
		k.secure, err = FreePort(0)
	}
	return err
}

// start brings a prepared node up.
func (k *Kafka) start(ctx context.Context) error {
	if err := k.configure(); err != nil {
		return err
	}
	if err := k.format(ctx); err != nil {
		return err
	}
	return k.launch(ctx)
}

func (k *Kafka) file(name string) string { return filepath.Join(k.dir.path, name) }

// settings are the server's properties: a node that is broker and controller, quick to notice a dead member and to come
// back after a crash, internal topics with as many replicas as the cluster can bear.
func (k *Kafka) settings() map[string]string {
	broker, controller := k.Addr(), k.controllerAddr()
	replicas, inSync := k.seat.replication()
	s := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          strconv.Itoa(k.seat.id),
		"controller.quorum.voters":                         k.seat.voters,
		"listeners":                                        "PLAINTEXT://" + broker + ",CONTROLLER://" + controller,
		"advertised.listeners":                             "PLAINTEXT://" + broker,
		"controller.listener.names":                        "CONTROLLER",
		"listener.security.protocol.map":                   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                         k.file("data"),
		"auto.create.topics.enable":                        "false",
		"group.initial.rebalance.delay.ms":                 "0",
		"group.min.session.timeout.ms":                     "500",
		"broker.session.timeout.ms":                        "3000",
		"broker.heartbeat.interval.ms":                     "500",
		"offsets.topic.num.partitions":                     "4",
		"default.replication.factor":                       replicas,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 replicas,
		"transaction.state.log.num.partitions":             "4",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"share.coordinator.state.topic.num.partitions":     "1",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,
	}
	k.secureSettings(s)
	maps.Copy(s, k.cfg.Settings)
	return s
}

// configure writes the server's files.
func (k *Kafka) configure() error {
	var b strings.Builder
	settings := k.settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s=%s\n", name, strings.ReplaceAll(settings[name], `\`, `\\`))
	}
	return wrap(errors.Join(
		os.WriteFile(k.file("server.properties"), []byte(b.String()), 0o600),
		os.WriteFile(k.file("log4j2.properties"), kafkaLogging, 0o600),
	), "write server's configuration")
}

// java is a command that runs a main class of the server's jars.
func (k *Kafka) java(options []string, main string, args ...string) *exec.Cmd {
	all := slices.Clone(options)
	if k.classes != "" {
		all = append(all, "-XX:SharedArchiveFile="+k.classes)
	}
	all = append(all, "-Dlog4j2.configurationFile="+k.file("log4j2.properties"), "-cp", filepath.Join(k.jars, "*"), main)
	cmd := exec.Command("java", append(all, args...)...)
	cmd.Dir = k.dir.path
	return cmd
}

// format makes an empty log directory with the cluster's id, once.
func (k *Kafka) format(ctx context.Context) error {
	if _, err := os.Stat(k.file("data/meta.properties")); err == nil {
		return nil
	}
	report(k.cfg.Progress, "formatting Kafka's log directory in %s", k.dir.path)
	cmd := k.java([]string{"-XX:TieredStopAtLevel=1", "-Xmx128m"}, "kafka.tools.StorageTool",
		"format", "--ignore-formatted", "--cluster-id="+k.seat.cluster, // an id may begin with a dash
		"-c", k.file("server.properties"))
	return wrap(runOut(ctx, cmd, nil), "format Kafka's log directory")
}

// launch starts the server and waits until it takes requests. A clean shutdown takes long and is worth little here, so
// the death signal kills.
func (k *Kafka) launch(ctx context.Context) error {
	log, err := os.OpenFile(k.file("kafka.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("look at log: %w", err)
	}
	jvm := k.cfg.JVM
	if len(jvm) == 0 {
		jvm = testJVM("-Xms128m", "-Xmx"+k.seat.heap())
	}
	cmd := k.java(jvm, "kafka.Kafka", k.file("server.properties"))
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := startProcess(cmd, nil, syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := errors.Join(k.dir.notePid(proc.pid()), k.waitReady(ctx, proc)); err != nil {
		proc.kill()
		return fmt.Errorf("%w: %s", err, tail(k.file("kafka.log"), info.Size()))
	}
	k.runs(proc)
	return nil
}

// waitReady asks the server for a group's coordinator and for a producer id until it has both. These are its last parts
// to come up, and the first needs the internal topic, which is made on this occasion: nobody else waits for it.
func (k *Kafka) waitReady(ctx context.Context, proc *process) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr()), kgo.RetryTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		last := askReady(ctx, client, k.Addr())
		if last == nil {
			return nil
		}
		select {
		case <-proc.done:
			return fmt.Errorf("server ended while starting (%w)", proc.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for the server to be ready: %w (last: %w)", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// askReady returns nil when the server names a group coordinator, that one knows its groups, and there are
// producer ids to be had.
func askReady(ctx context.Context, client *kgo.Client, addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err // nobody listens yet; the client would take longer to find out
	}
	_ = conn.Close()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys = "pavane-ready", []string{"pavane-ready"}
	resp, err := find.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	code := resp.ErrorCode
	for _, c := range resp.Coordinators {
		code = max(code, c.ErrorCode)
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return err
	}
	groups := kmsg.NewPtrListGroupsRequest()
	listed, err := groups.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(listed.ErrorCode); err != nil {
		return err
	}
	return askProducer(ctx, client)
}

// askProducer returns nil when the server gives out producer ids, which a fresh one does a moment later than the rest.
func askProducer(ctx context.Context, client *kgo.Client) error {
	init := kmsg.NewPtrInitProducerIDRequest()
	init.ProducerID, init.ProducerEpoch = -1, -1
	given, err := init.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(given.ErrorCode)
}

// Addr returns the server's host:port. It stays the same through Restart.
func (k *Kafka) Addr() string { return net.JoinHostPort(loopback, strconv.Itoa(k.port)) }

func (k *Kafka) controllerAddr() string {
	return net.JoinHostPort(loopback, strconv.Itoa(k.controller))
}

// Restart starts the server again on the same directory and port and returns when it takes requests. A server that still
// runs is shut down first.
func (k *Kafka) Restart(ctx context.Context) error {
	if err := k.process().stop(ctx, syscall.SIGTERM); err != nil {
		return fmt.Errorf("restart Kafka: %w", err)
	}
	return wrap(k.launch(ctx), "restart Kafka")
}

// Stop shuts the server down, and kills it when ctx ends first. Temporary files are removed, a kept directory can be
// started again. The second call does nothing.
func (k *Kafka) Stop(ctx context.Context) error {
	return wrap(k.stop(ctx, syscall.SIGTERM, syscall.SIGKILL), "stop Kafka")
}
