package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/internal/devstack"
)

// broker is a Kafka that the stack runs and can take down.
type broker interface {
	down(ctx context.Context, kill bool) error
	up(ctx context.Context) error
	stop(ctx context.Context) error
}

// brokerPoll is the pause between two looks whether a broker comes up or goes.
const brokerPoll = 20 * time.Millisecond

// startBroker starts the embedded broker, as a process of its own so that it can
// be killed like any other, or an Apache Kafka.
func (s *Stack) startBroker(ctx context.Context) error {
	dir := filepath.Join(s.cfg.Dir, "broker")
	if s.cfg.RealKafka {
		k, err := devstack.StartKafka(ctx, devstack.KafkaConfig{
			Dir: filepath.Join(s.cfg.Dir, "kafka"), Progress: func(what string) { s.cfg.Progress("%s", what) },
		})
		if err != nil {
			return err
		}
		s.broker, s.cfg.Kafka = realKafka{k}, k.Addr()
		s.cfg.Progress("Apache Kafka at %s", s.cfg.Kafka)
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	port, err := devstack.FreePort(0)
	if err != nil {
		return err
	}
	b := &embedded{addr: loopback(port), child: &child{
		name: "broker", binary: exe, args: []string{"broker", "--dir", dir, "--port", strconv.Itoa(port)}, env: environ(),
		log: filepath.Join(s.cfg.Dir, "logs", "broker.log"), onExit: s.cfg.OnExit,
		onPid: func(p Process) { s.note(s.state.Servers, "broker", p) },
	}}
	s.broker, s.cfg.Kafka = b, b.addr
	if err := b.child.start(); err != nil {
		return err
	}
	if err := fault.AwaitBroker(ctx, b.addr); err != nil {
		return err
	}
	s.cfg.Progress("broker (embedded, Kafka protocol) at %s", s.cfg.Kafka)
	return nil
}

// poll returns when ok, or with an error that says what is not when ctx ends first.
func poll(ctx context.Context, not string, ok func() bool) error {
	tick := time.NewTicker(brokerPoll)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", not, ctx.Err())
		}
	}
	return nil
}

// embedded is `pavane broker` as a child.
type embedded struct {
	child *child
	addr  string
}

func (b *embedded) down(ctx context.Context, kill bool) error { return takeDown(ctx, b.child, kill) }

// takeDown ends a process, which then stays down until it is released. One that is
// between two lives is down.
func takeDown(ctx context.Context, c *child, kill bool) error {
	c.hold()
	if err := end(ctx, c, kill); !errors.Is(err, errNotRunning) {
		return err
	}
	return nil
}

// end ends a process and waits until it is gone.
func end(ctx context.Context, c *child, kill bool) error {
	s := syscall.SIGTERM
	if kill {
		s = syscall.SIGKILL
	}
	pid, err := c.send(s)
	if err != nil {
		return err
	}
	return poll(ctx, c.name+" does not end", func() bool { return c.pid() != pid })
}

func (b *embedded) up(ctx context.Context) error {
	b.child.release()
	return fault.AwaitBroker(ctx, b.addr)
}

func (b *embedded) stop(ctx context.Context) error {
	b.child.stop(ctx)
	return nil
}

// realKafka is an Apache Kafka.
type realKafka struct{ *devstack.Kafka }

func (k realKafka) down(ctx context.Context, kill bool) error {
	if kill {
		k.Kill()
		return nil
	}
	pid := k.Pid()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop Kafka: %w", err)
	}
	return poll(ctx, "Kafka does not end", func() bool { return identity(pid) == "" })
}

func (k realKafka) up(ctx context.Context) error { return k.Restart(ctx) }

func (k realKafka) stop(ctx context.Context) error { return k.Stop(ctx) }
