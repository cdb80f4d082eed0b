// Package stack owns the demo as a whole: it starts Postgres, the broker, a mail
// sink, the card provider's simulator and the five services as processes on loopback, keeps the services
// running, and stops everything in order.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pavane/cmd/pavane/internal/authority"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/mailsink"
	"pavane/internal/devstack"
	"pavane/internal/faultproxy"
	"pavane/migrations"
)

// services are the processes of the demo in the order of their start. The
// gateway is the last, so that it has somebody to ask.
func services() []service {
	return []service{
		{"order-svc", "orders", migrations.Order()},
		{"payment-svc", "payments", migrations.Payment()},
		{"inventory-svc", "inventory", migrations.Inventory()},
		{"notification-svc", "notifications", migrations.Notification()},
		{name: gateway},
	}
}

const gateway = "gateway-svc"

// Provider is the name of the simulator among the processes.
const Provider = "provider"

// providerTimeout is how long payment-svc waits for the simulator, which answers at
// once or is told not to.
const providerTimeout = time.Second

type service struct {
	name, database string
	migrations     fs.FS
}

// Database is that of a service.
type Database struct {
	Service, Name string
	Migrations    fs.FS // of the service
}

// Databases lists the services that have one.
func Databases() []Database {
	var all []Database
	for _, svc := range services() {
		if svc.database != "" {
			all = append(all, Database{svc.name, svc.database, svc.migrations})
		}
	}
	return all
}

// stopServices is how long the services may take to stop before they are killed.
const stopServices = 8 * time.Second

// Config says how the stack runs. Dir is required.
type Config struct {
	Dir         string   // data, logs and state
	Postgres    string   // URL of a server to use, with a user that may create databases; empty: an embedded one
	Kafka       string   // host:port list of a Kafka to use; empty: an embedded broker
	KafkaUsers  string   // directory with the password of each principal of a secured Kafka in a file of its name; empty: no users
	Namespace   string   // before the names of topics and groups
	Databases   []string // to create beside those of the services, empty, for somebody's own
	GatewayPort int      // wanted; a taken one is stepped over
	Env         []string
	Throwaway   bool    // the data need not survive a power cut
	Auth        bool    // have the gateway ask for tokens of an authority of the stack's own
	RealKafka   bool    // start an Apache Kafka in place of the embedded broker
	Breakable   bool    // lead each service's ways to servers that the stack starts through proxies of its own
	Control     Control // its token is the operator's, and the gateway is told where it is; zero: nobody is an operator

	Progress func(format string, args ...any) // told about each step
	OnExit   func(Exit)                       // told when a service died and was started again
}

// Stack is a running demo.
type Stack struct {
	cfg      Config
	lock     *devstack.Lock
	postgres *devstack.Postgres // nil: somebody else's
	broker   broker             // nil: somebody else's
	Mail     *mailsink.Sink     // what the customers got

	mu       sync.Mutex
	state    State
	children []*child
	second   map[string]*child         // second instances, by service
	ways     map[way]*faultproxy.Proxy // empty unless Config.Breakable
}

// Start starts everything and returns when the gateway's process runs. On an
// error it has stopped what it had started.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	s := &Stack{cfg: cfg, second: map[string]*child{}, ways: map[way]*faultproxy.Proxy{}, state: State{
		Pid: os.Getpid(), Identity: identity(os.Getpid()), Namespace: cfg.Namespace, Started: time.Now(), Services: map[string]Process{}, Servers: map[string]Process{},
	}}
	err := errors.Join(checkPassword(cfg.Postgres), checkNames(cfg.Databases))
	if err != nil {
		return nil, err
	}
	if s.lock, err = lock(cfg.Dir); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopServices)
		defer cancel()
		return nil, errors.Join(err, s.Stop(stopping))
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	if old, err := readState(s.cfg.Dir); err == nil {
		n, err := reap(old)
		if err != nil {
			return err
		}
		if n > 0 {
			s.cfg.Progress("ended %d processes that an earlier run left behind", n)
		}
	}
	if _, err := Binaries(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.startServers, s.startProxies, s.writeSecrets, s.createDatabases, s.migrate, s.startProvider, s.startServices} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startServers starts Postgres, the broker and the mail sink, or takes the given
// ones.
func (s *Stack) startServers(ctx context.Context) (err error) {
	if s.Mail, err = mailsink.Start(); err != nil {
		return err
	}
	if s.cfg.Kafka == "" {
		if err := s.startBroker(ctx); err != nil {
			return err
		}
	}
	if s.cfg.Postgres == "" {
		s.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{
			Dir: filepath.Join(s.cfg.Dir, "postgres"), NoSync: s.cfg.Throwaway, MovableClock: s.cfg.Breakable,
			Progress: func(what string) { s.cfg.Progress("%s", what) },
		})
		if err != nil {
			return err
		}
		s.cfg.Postgres = s.postgres.URL("postgres")
		// The setting stays in the data, also of a demo that ended with a slow disk.
		if err := fault.SlowDisk(ctx, s.cfg.Postgres, 0); err != nil {
			return err
		}
		s.cfg.Progress("Postgres (embedded) at %s", hostOf(s.cfg.Postgres))
	}
	s.state.Postgres, s.state.Kafka = s.cfg.Postgres, strings.Split(s.cfg.Kafka, ",")
	return nil
}

// startProvider starts the simulator, a process of its own like the services: a
// provider that dies is one more thing that a saga must live through.
func (s *Stack) startProvider(context.Context) error {
	port, err := devstack.FreePort(0)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	c := &child{
		name: Provider, binary: exe, log: filepath.Join(s.cfg.Dir, "logs", Provider+".log"), env: environ(),
		args:   []string{"provider", "--listen", loopback(port), "--ledger", filepath.Join(s.cfg.Dir, "provider.jsonl")},
		onExit: s.cfg.OnExit, onPid: func(p Process) { s.note(s.state.Services, Provider, p) },
	}
	s.state.Provider = "http://" + loopback(port)
	s.children = append(s.children, c)
	if err := c.start(); err != nil {
		return err
	}
	s.cfg.Progress("card provider (simulated) at %s", s.state.Provider)
	return nil
}

// startServices starts the five processes.
func (s *Stack) startServices(context.Context) error {
	port, err := devstack.FreePort(s.cfg.GatewayPort)
	if err != nil {
		return err
	}
	if s.cfg.GatewayPort != 0 && port != s.cfg.GatewayPort {
		s.cfg.Progress("port %d is taken; the gateway takes %d", s.cfg.GatewayPort, port)
	}
	s.state.Gateway = "http://" + loopback(port)
	gossip := make([]string, len(services()))
	for i := range services() {
		p, err := devstack.FreePort(0)
		if err != nil {
			return err
		}
		gossip[i] = loopback(p)
	}
	dir, err := binDir()
	if err != nil {
		return err
	}
	for i, svc := range services() {
		c := s.child(svc.name, filepath.Join(dir, svc.name), s.env(svc, port, gossip[i], gossip))
		s.children = append(s.children, c)
		if err := c.start(); err != nil {
			return err
		}
	}
	s.cfg.Progress("five services started; their logs are in %s", filepath.Join(s.cfg.Dir, "logs"))
	return nil
}

// child prepares a service's process.
func (s *Stack) child(name, binary string, env []string) *child {
	return &child{
		name: name, binary: binary, env: env, log: filepath.Join(s.cfg.Dir, "logs", name+".log"),
		onExit: s.cfg.OnExit, onPid: func(p Process) { s.note(s.state.Services, name, p) },
	}
}

// note keeps the file with the pids up to date.
func (s *Stack) note(in map[string]Process, name string, p Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in[name] = p
	if err := s.state.write(s.cfg.Dir); err != nil {
		s.cfg.Progress("%v", err)
	}
}

// environ is our environment without what steers the tool and tests, or is the
// stack's to say: a process shows it to others than its owner, too.
func environ() []string {
	own := []string{"PAVANE_POSTGRES", "PAVANE_KAFKA", "PAVANE_DIR", "PAVANE_SERVICE_KEY", "PAVANE_SERVICE_KEY_FILE", "PAVANE_OPERATOR_TOKEN", "PAVANE_DATABASE"}
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(own, name)
	})
}

// env is what a service is told. Memory is capped so that the whole demo stays
// small; the collector works a little more for it.
func (s *Stack) env(svc service, gatewayPort int, gossip string, join []string) []string {
	env := append(environ(),
		"GOMEMLIMIT=40MiB", "GOGC=400", "GOMAXPROCS="+strconv.Itoa(max(1, runtime.NumCPU()/2)),
		"PAVANE_BROKERS="+s.brokersFor(svc.name), "PAVANE_CREATE_TOPICS=true", "PAVANE_NAMESPACE="+s.cfg.Namespace,
		"PAVANE_REGISTRY_BIND="+gossip, "PAVANE_REGISTRY_JOIN="+strings.Join(join, ","),
		"PAVANE_HTTP_ADDR="+loopback(0), "PAVANE_SEED=demo", "PAVANE_SMTP_ADDR="+s.Mail.Addr(),
		"PAVANE_PROVIDER_URL="+s.state.Provider, "PAVANE_PROVIDER_TIMEOUT="+providerTimeout.String(), "PAVANE_PROVIDER_RECONCILE=5s",
	)
	env = append(env, "PAVANE_SERVICE_KEY_FILE="+secretFile(s.cfg.Dir, "service-key"))
	if s.cfg.Control.Token != "" {
		env = append(env, "PAVANE_OPERATOR_TOKEN_FILE="+secretFile(s.cfg.Dir, "operator-token"))
	}
	if svc.name == gateway {
		env = append(env, "PAVANE_HTTP_ADDR="+loopback(gatewayPort), "PAVANE_BREAK_URL="+s.cfg.Control.URL)
		if s.cfg.Auth {
			env = append(env, "PAVANE_AUTH_JWKS_FILE="+authority.KeySet(s.state.Authority),
				"PAVANE_AUTH_ISSUER="+authority.Issuer, "PAVANE_AUTH_AUDIENCE="+authority.Audience)
		}
	}
	if svc.database != "" {
		env = append(env, "PAVANE_DATABASE_FILE="+secretFile(s.cfg.Dir, svc.database+"-url"), "PAVANE_MIGRATE=false")
	}
	env = append(env, s.kafkaUser(svc.name)...)
	return append(env, s.cfg.Env...)
}

// kafkaUser has a process log in to Kafka as a principal of its own.
func (s *Stack) kafkaUser(name string) []string {
	if s.cfg.KafkaUsers == "" {
		return nil
	}
	return []string{
		"PAVANE_KAFKA_USER=" + name, "PAVANE_KAFKA_PASSWORD_FILE=" + filepath.Join(s.cfg.KafkaUsers, name), "PAVANE_CREATE_TOPICS=false",
	}
}

// State is what the stack has written to its state file.
func (s *Stack) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	state.Services, state.Servers = maps.Clone(state.Services), maps.Clone(state.Servers)
	return state
}

// Serve notes in the state file where the stack takes orders.
func (s *Stack) Serve(c Control) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Control = c
	return s.state.write(s.cfg.Dir)
}

// running are the processes of all services.
func (s *Stack) running() []*child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.AppendSeq(slices.Clone(s.children), maps.Values(s.second))
}

// Stop stops the gateway, the other services, and the servers, in this order.
// What does not stop in time is killed.
func (s *Stack) Stop(ctx context.Context) error {
	soft, cancel := context.WithTimeout(ctx, stopServices)
	defer cancel()
	for _, c := range s.children {
		if c.name == gateway {
			c.stop(soft)
		}
	}
	var wg sync.WaitGroup
	for _, c := range s.running() {
		wg.Go(func() { c.stop(soft) })
	}
	wg.Wait()
	var err error
	if s.postgres != nil {
		err = s.postgres.Stop(ctx)
	}
	if s.broker != nil {
		err = errors.Join(err, s.broker.stop(ctx))
	}
	for _, p := range s.ways {
		p.Close()
	}
	if s.Mail != nil {
		s.Mail.Close()
	}
	os.Remove(stateFile(s.cfg.Dir)) //nolint:errcheck // the next start looks whether its processes live
	s.lock.Unlock()
	return err
}

// DatabaseURL is the URL of one database of a server.
func DatabaseURL(server, database string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server // opening it says what is wrong
	}
	u.Path = "/" + database
	return u.String()
}

func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return "?"
	}
	return u.Host
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// binDir is where the services' binaries are: beside this one.
func binDir() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the services' binaries: %w", err)
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	return filepath.Dir(exe), nil
}

// Binaries is the directory with the services' binaries. It returns an error when
// one is missing.
func Binaries() (dir string, err error) {
	if dir, err = binDir(); err != nil {
		return "", err
	}
	for _, svc := range services() {
		if _, err := os.Stat(filepath.Join(dir, svc.name)); err != nil {
			return "", fmt.Errorf("%s is not beside pavane in %s: run `make build` and start bin/pavane", svc.name, dir)
		}
	}
	return dir, nil
}
