package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"pavane/shared/broker"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// way is one way from an outbox into Kafka.
type way struct {
	name  string
	table string // its outbox
	poll  int    // rows a poll of the textbook relay; 0: it is Pavane's
}

func pavane() way       { return way{name: "pavane", table: "outbox"} }
func textbook1000() way { return way{name: "textbook-1000", table: "textbook_outbox", poll: 1000} }
func textbook100() way  { return way{name: "textbook-100", table: "textbook_outbox", poll: 100} }

// childArgument makes a process of this program the one under test.
const childArgument = "child"

// job is what a process under test shall do.
type job struct {
	URL     string `json:"url"`
	Kafka   string `json:"kafka"`
	Topic   string `json:"topic"`
	Poll    int    `json:"poll"`    // rows a poll of the textbook relay; 0: Pavane's relay
	Profile string `json:"profile"` // file for a CPU profile; empty: none
}

// relay runs Pavane's relay as a service does, without the service.
func (j job) relay(ctx context.Context) error {
	db, err := postgres.Open(relay.Pool(j.URL))
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the process ends
	client, err := broker.Dial(broker.Config{Brokers: []string{j.Kafka}, Topics: []string{j.Topic}})
	if err != nil {
		return err
	}
	defer client.Close()
	bell, err := postgres.OpenBell(relay.Pool(j.URL), "outbox")
	if err != nil {
		return err
	}
	defer bell.Close() //nolint:errcheck // as above
	r, err := relay.New(relay.Config{DB: db, Publisher: client, Bell: bell, Partitions: partitions, Topics: []string{j.Topic}})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

func (j job) startProfile() (stop func(), err error) {
	if j.Profile == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Dir(j.Profile), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(j.Profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

// child is a running process under test.
type child struct {
	cmd     *exec.Cmd
	done    chan struct{}
	said    strings.Builder
	started time.Time
}

// launch starts the trial's relay as a process of its own.
func (t *trial) launch() (*child, error) {
	path, err := self()
	if err != nil {
		return nil, err
	}
	j := job{URL: t.pg.URL(t.name), Kafka: t.kafka.Addr(), Topic: t.name, Poll: t.way.poll}
	if t.opts.profile != "" && t.way.poll == 0 {
		j.Profile = filepath.Join(t.opts.profile, t.section+"-"+t.name+".pprof")
	}
	what, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(path, childArgument), done: make(chan struct{}), started: time.Now()}
	c.cmd.Stdin, c.cmd.Stderr, c.cmd.Stdout = strings.NewReader(string(what)), &c.said, io.Discard
	begun := make(chan error, 1)
	go func() {
		// A death signal belongs to the thread that forks, so that one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		c.cmd.SysProcAttr = deathSignal()
		err := c.cmd.Start()
		begun <- err
		if err == nil {
			_ = c.cmd.Wait() // whoever needs the process finds it gone
		}
	}()
	return c, <-begun
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// kill ends the process as a crash does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// stop ends the process in order.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(stopTime):
		c.kill()
	}
}

// gone tells why a process that should run does not; nil when it does.
func (c *child) gone() error {
	select {
	case <-c.done:
		return fmt.Errorf("the relay's process ended (%s): %s", c.cmd.ProcessState, strings.TrimSpace(c.said.String()))
	default:
		return nil
	}
}
