package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/client"
	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/event"
)

const (
	startTime = 60 * time.Second // for everything to be ready; the first start may have to fetch Postgres before
	healTime  = 10 * time.Second // for chaos to heal what it has broken
	stopTime  = 10 * time.Second
	quietTime = 3 * time.Second // after which a step that takes long says so
	orderTime = 15 * time.Second
)

type upOptions struct {
	dir, postgres, kafka string
	kafkaUsers           string
	namespace            string
	databases            []string
	port                 int
	noOpen, smoke        bool
	noOrders             bool
	realKafka            bool
	auth                 bool
}

func upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "Run the whole demo on this machine until Ctrl-C",
		Long: `Starts an embedded Postgres, an embedded broker that speaks the Kafka protocol
(one node in a process, no replication: a stand-in for trying things out), a
mail server that keeps what it gets, a simulated card provider, and the five
services as processes, all on loopback. Then it places a few orders and shows how they end.

Kill any of the services with kill -9: it is started again and its sagas go on.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p := newPrinter(c.OutOrStdout())
			if o.smoke {
				return runSmoke(c.Context(), o, p)
			}
			return runUp(c.Context(), o, p)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", stack.DefaultDir(), "where data, logs and state are kept")
	f.StringVar(&o.postgres, "postgres", "", "URL of a Postgres to use, with a user that may create databases; empty: an embedded one")
	f.StringVar(&o.kafka, "kafka", "", "host:port list of a Kafka to use; empty: an embedded broker")
	f.StringVar(&o.namespace, "namespace", "", "what the names of topics and groups begin with, so that several systems can share a Kafka")
	f.StringVar(&o.kafkaUsers, "kafka-users", "", "directory with a file for each service, and for migrate, that holds its password for --kafka; the file's name is the user; the rest is in PAVANE_KAFKA_…")
	f.StringSliceVar(&o.databases, "database", nil, "name of a database to create beside the demo's, for a service of your own; what such a service needs to know is said once all is ready")
	f.BoolVar(&o.realKafka, "real-kafka", false, "start an Apache Kafka in place of the embedded broker; needs Java 17 and Maven")
	f.BoolVar(&o.auth, "auth", false, "have the gateway ask for tokens; pavane token prints one")
	f.IntVar(&o.port, "port", 8080, "port of the gateway; a taken one is stepped over")
	f.BoolVar(&o.noOpen, "no-open", false, "do not open the page in a browser")
	f.BoolVar(&o.noOrders, "no-orders", false, "place no orders: none to begin with, and none when a service has died")
	f.BoolVar(&o.smoke, "smoke", false, "run every path of the saga once on fresh data, audit, and end with the verdict")
	c.MarkFlagsMutuallyExclusive("kafka", "real-kafka")
	c.MarkFlagsMutuallyExclusive("smoke", "dir") // the verdict is on fresh data alone
	c.MarkFlagsMutuallyExclusive("smoke", "port")
	c.MarkFlagsMutuallyExclusive("smoke", "database")
	return c
}

// printer writes lines with the time since the start, one at a time, and a sign
// of life when nothing was written for a while.
type printer struct {
	mu    sync.Mutex
	out   io.Writer
	begin time.Time
	last  time.Time
}

func newPrinter(out io.Writer) *printer {
	return &printer{out: out, begin: time.Now(), last: time.Now()}
}

func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	fmt.Fprintf(p.out, "%6.1fs  %s\n", time.Since(p.begin).Seconds(), fmt.Sprintf(format, args...))
}

// alive says "still …" while a step takes long, until stop is called.
func (p *printer) alive(what string) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				p.mu.Lock()
				quiet := time.Since(p.last) >= quietTime
				p.mu.Unlock()
				if quiet {
					p.say("still %s …", what)
				}
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// start starts the stack and waits until the gateway can place orders.
func start(ctx context.Context, o upOptions, cfg stack.Config, p *printer) (*stack.Stack, error) {
	defer p.alive("starting")()
	cfg.Postgres, cfg.Kafka, cfg.KafkaUsers, cfg.RealKafka = o.postgres, o.kafka, o.kafkaUsers, o.realKafka
	cfg.Auth, cfg.Progress = o.auth, p.say
	s, err := stack.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; the logs are in %s", err, filepath.Join(cfg.Dir, "logs")), stop(s))
	}
	p.say("ready: %s", s.State().Gateway)
	return s, nil
}

func stop(s *stack.Stack) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return s.Stop(ctx)
}

func runUp(ctx context.Context, o upOptions, p *printer) error {
	ctl, err := control.Listen("127.0.0.1:0", rand.Text())
	if err != nil {
		return err
	}
	defer ctl.Close(ctx) //nolint:errcheck // nothing is broken before the demo serves
	exits := make(chan stack.Exit, 16)
	s, err := start(ctx, o, stack.Config{Dir: o.dir, GatewayPort: o.port, Namespace: o.namespace, Databases: o.databases, Breakable: true, Control: ctl.Control(), OnExit: func(e stack.Exit) {
		p.say("%s (process %d) ended: %s; started again as process %d", e.Service, e.Pid, e.How, e.NewPid)
		if o.noOrders {
			return
		}
		select {
		case exits <- e:
		default: // many at once: one probe tells enough
		}
	}}, p)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil // stopped before it ran, as one may
	case err != nil:
		return err
	}
	ctl.Serve(s, o.chaos(s, p))
	if err := s.Serve(ctl.Control()); err != nil {
		return errors.Join(err, stop(s))
	}
	state := s.State()
	for _, name := range o.databases {
		p.say("for a service of your own: PAVANE_DATABASE='%s' PAVANE_BROKERS=%s", state.Database(name), strings.Join(state.Kafka, ","))
	}
	gateway := state.Client()
	if !o.noOrders {
		if err := showcase(ctx, gateway, p); err != nil {
			p.say("%v", err)
		}
	}
	page, err := pageOf(state)
	if err != nil {
		return errors.Join(err, stop(s))
	}
	p.say("page: %s   try: kill -9 %d (payment-svc), %[3]s saga show ORDER, %[3]s audit", page, state.Services["payment-svc"].Pid, os.Args[0])
	if !o.noOpen {
		open(ctx, page)
	}
	watch(ctx, s, gateway, exits, p)
	p.say("stopping")
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTime)
	defer cancel()
	if err := ctl.Close(closing); err != nil {
		p.say("%v", err) // it goes down with the demo
	}
	if err := stop(s); err != nil {
		return err
	}
	p.say("stopped")
	return nil
}

// pageOf is the address of the page for whom the terminal belongs to: behind the
// # it carries the operator's token, which a browser sends to no server, and one
// for a gateway that asks who is there.
func pageOf(s stack.State) (string, error) {
	page := s.Gateway + "/#operator=" + s.Control.Token
	if s.Authority == "" {
		return page, nil
	}
	token, err := s.Token(pageLife)
	return page + "&token=" + token, err
}

// showcase places an order of each fate and tells how it ended.
func showcase(ctx context.Context, gateway *client.Client, p *printer) error {
	tea := client.Item{SKU: "tea-green", Quantity: 2}
	for _, order := range []struct {
		what, customer string
		items          []client.Item
	}{
		{"two packets of tea", "cust-01", []client.Item{tea}},
		{"something out of stock", "cust-02", []client.Item{tea, {SKU: "gift-card", Quantity: 1}}},
		{"tea for an empty wallet", "cust-20", []client.Item{tea}},
	} {
		begin := time.Now()
		id, o, err := placeAndWait(ctx, gateway, client.Body(order.customer, order.items...))
		if err != nil {
			return err
		}
		p.say("order %s (%s): %s %s after %d ms", id, order.what, o.State, o.Reason, time.Since(begin).Milliseconds())
	}
	return nil
}

func placeAndWait(ctx context.Context, gateway *client.Client, body []byte) (string, client.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	key := event.NewID()
	for {
		id, err := gateway.Place(ctx, key, body)
		if err == nil {
			o, err := gateway.Await(ctx, id, client.Decided)
			return id, o, err
		}
		select { // with the same key, a second try is safe
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", client.Order{}, err
		}
	}
}

// watch tells every few seconds how things are, and after the death of a service
// how long it took until an order went through again.
func watch(ctx context.Context, s *stack.Stack, gateway *client.Client, exits <-chan stack.Exit, p *printer) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	before := ""
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-exits:
			for len(exits) > 0 { // several died meanwhile; the last one tells how long it takes now
				e = <-exits
			}
			id, o, err := placeAndWait(ctx, gateway, client.Body("cust-03", client.Item{SKU: "honey", Quantity: 1}))
			if err != nil {
				p.say("after the end of %s: %v", e.Service, err)
				continue
			}
			p.say("the saga went on: order %s %s %.1f s after the end of %s", id, o.State, time.Since(e.At).Seconds(), e.Service)
		case <-tick.C:
			line, err := s.Summary(ctx)
			if err == nil && line != before {
				p.say("%s", line)
				before = line
			}
		}
	}
}

// open shows the page in a browser where there is one.
func open(ctx context.Context, url string) {
	if os.Getenv("CI") != "" {
		return
	}
	command := "xdg-open"
	switch {
	case runtime.GOOS == "darwin":
		command = "open"
	case os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "":
		return
	}
	if path, err := exec.LookPath(command); err == nil {
		address, err := once(ctx, url)
		if err != nil {
			return
		}
		cmd := exec.CommandContext(ctx, path, address)
		if cmd.Start() == nil {
			go cmd.Wait() //nolint:errcheck // whether a browser came up is for the person to see
		}
	}
}

// smokeNamespace begins the names of topics on somebody else's Kafka, where an
// earlier run has left its own.
func smokeNamespace(kafka string) string {
	if kafka == "" {
		return ""
	}
	return "smoke-" + event.NewID()[:13] + "."
}
