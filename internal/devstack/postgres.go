package devstack

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// superuser is the role that StartPostgres makes and URL names.
const superuser = "postgres"

const (
	// bindTries is how often a start is tried again with another port or while a crashed server's memory is
	// still held.
	bindTries = 40
	// bindPause is the pause before such a try.
	bindPause = 50 * time.Millisecond
	// logTail is how much of the server's log an error shows, in bytes.
	logTail = 1500
)

// PostgresConfig says where and how a Postgres runs. The zero value is a throw-away server.
type PostgresConfig struct {
	// Dir holds the data directory, the password and the log, and is kept by Stop. Empty means a temporary
	// directory that Stop removes. When we run as root and the server's user cannot walk to Dir, a
	// stand-in below the temporary directory is used; see Postgres.Dir.
	Dir string
	// Port is the wanted port; 0 means any. A taken one is stepped over.
	Port int
	// NoSync turns fsync off, for tests: faster, and a power cut (not a crash of the server) loses data. Without
	// Dir they are in memory, on a Linux with plenty of it.
	NoSync bool
	// MovableClock has the server run with libfaketime, where that is, so that MoveClock works.
	MovableClock bool
	// Collation is the ICU locale that text is ordered by, such as "en-US"; empty means by its bytes.
	Collation string
	// Settings are server settings on top of the defaults, which they win over.
	Settings map[string]string
	// Version is the Postgres to fetch and run, such as "14.19.0", whatever the machine has; empty means the
	// machine's own, else one that we choose.
	Version string
	// BinDir names a directory with initdb and postgres; empty means the one of Version.
	BinDir string
	// CacheDir is where a fetched Postgres is kept; empty means CacheDir().
	CacheDir string
	// Mirror is the Maven repository that Postgres is fetched from; empty means Maven Central.
	Mirror string
	// Progress is told about steps that take long; may be nil.
	Progress func(string)
}

// Postgres is a running server, a direct child of this process. Its methods may be called from several
// goroutines, one at a time for Stop, Kill and Restart.
type Postgres struct {
	server
	cfg      PostgresConfig
	as       *account
	bin      string
	password string
	faketime string // the library; empty: the clock is the machine's
	port     atomic.Int64
}

// StartPostgres starts a server and returns when it accepts connections. It initialises the data directory on
// the first start and ends a server that a crashed starter left in it. It fails when another live
// process uses the directory, or when ctx ends first.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	p := &Postgres{cfg: cfg, as: serverAccount()}
	if err := p.start(ctx); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", errors.Join(err, p.dir.release()))
	}
	return p, nil
}

// takeDir makes the server's directory: in memory, when nobody needs it on a disk.
func (p *Postgres) takeDir(ctx context.Context) (*workDir, error) {
	if p.cfg.Dir == "" && p.cfg.NoSync {
		return takeTempDir(ctx, p.as, scratch(), "postgres", p.cfg.Progress)
	}
	return takeWorkDir(ctx, p.as, p.cfg.Dir, "postgres", p.cfg.Progress)
}

// start goes through the steps; what it has taken before a fault is given back by the caller.
func (p *Postgres) start(ctx context.Context) (err error) {
	if p.bin, err = p.cfg.binaries(ctx, p.as); err != nil {
		return err
	}
	if p.dir, err = p.takeDir(ctx); err != nil {
		return err
	}
	if err := p.initialise(ctx); err != nil {
		return err
	}
	if err := p.fakeClock(); err != nil {
		return err
	}
	return p.launch(ctx, p.cfg.Port)
}

func (p *Postgres) dataDir() string { return filepath.Join(p.dir.path, "data") }
func (p *Postgres) logFile() string { return filepath.Join(p.dir.path, "postgres.log") }

// ready says whether postmaster.pid is of process pid and its status line says that it accepts connections.
func (p *Postgres) ready(pid int) bool {
	b, err := os.ReadFile(filepath.Join(p.dataDir(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(b), "\n")
	return len(lines) > 7 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// initialise makes the data directory once. It is built beside its place and moved there by a rename, so that
// a killed initdb leaves nothing that looks usable.
func (p *Postgres) initialise(ctx context.Context) error {
	secret := filepath.Join(p.dir.path, "password")
	if _, err := os.Stat(filepath.Join(p.dataDir(), "PG_VERSION")); err == nil {
		b, err := os.ReadFile(secret)
		if err != nil {
			return fmt.Errorf("read the server's password (remove %s to begin anew): %w", p.dir.path, err)
		}
		p.password = string(b)
		return nil
	}
	report(p.cfg.Progress, "initialising Postgres in %s", p.dir.path)
	fresh := p.dataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove half initialised data: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	p.password = rand.Text()
	if err := os.WriteFile(secret, []byte(p.password), 0o600); err != nil {
		return fmt.Errorf("keep the server's password: %w", err)
	}
	if err := errors.Join(p.as.own(fresh), p.as.own(secret)); err != nil {
		return fmt.Errorf("hand data over to the server's user: %w", err)
	}
	if err := p.initdb(ctx, fresh, secret); err != nil {
		return err
	}
	if err := os.Rename(fresh, p.dataDir()); err != nil {
		return fmt.Errorf("put data directory in place: %w", err)
	}
	return nil
}

// initdb runs the program of that name. No sync: it would take longer than all the rest, and there is
// nothing yet that a power cut could lose.
func (p *Postgres) initdb(ctx context.Context, data, secret string) error {
	args := []string{
		"-D", data, "-U", superuser,
		"--auth=scram-sha-256", "--pwfile=" + secret, "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
	}
	if p.cfg.Collation != "" {
		args = append(args, "--locale-provider=icu", "--icu-locale="+p.cfg.Collation)
	}
	cmd := exec.Command(filepath.Join(p.bin, "initdb"), args...)
	cmd.Dir, cmd.Env = p.dir.path, serverEnv()
	return wrap(runOut(ctx, cmd, p.as), "initdb in %s", data)
}

// serverEnv is our environment without what would steer the server (PGDATA, PGPORT, …) and with messages in
// English, which launch reads.
func serverEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	return append(env, "LC_ALL=C")
}

// settings are the server's settings: small, on loopback only, no socket files (their paths may be no longer
// than 107 bytes), deadlocks found fast.
func (p *Postgres) settings(port int) map[string]string {
	s := map[string]string{
		"port":                    strconv.Itoa(port),
		"listen_addresses":        loopback,
		"unix_socket_directories": "",
		"shared_buffers":          "32MB",
		"max_connections":         "200",
		"deadlock_timeout":        "100ms",
		"jit":                     "off",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_line_prefix":         "%m [%p] %d ",
	}
	if p.cfg.NoSync {
		maps.Copy(s, map[string]string{"fsync": "off", "full_page_writes": "off"})
	}
	maps.Copy(s, p.cfg.Settings)
	return s
}

// launch starts the server and waits until it is ready. It tries again with another port when somebody took
// ours in between, and with the same one while a crashed server's last children still hold its memory.
func (p *Postgres) launch(ctx context.Context, want int) error {
	for try := 1; ; try++ {
		port, err := FreePort(want)
		if err != nil {
			return err
		}
		proc, err := p.launchOnce(ctx, port)
		if err == nil {
			p.port.Store(int64(port))
			p.runs(proc)
			return nil
		}
		passing := strings.Contains(err.Error(), "Address already in use") || strings.Contains(err.Error(), "shared memory block")
		if !passing || try == bindTries {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(bindPause):
		}
	}
}

// launchOnce starts the server on port and returns when its pid file says ready. The death signal is the one
// for a fast, clean shutdown.
func (p *Postgres) launchOnce(ctx context.Context, port int) (*process, error) {
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at log: %w", err)
	}
	args := []string{"-D", p.dataDir()}
	settings := p.settings(port)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir.path, append(serverEnv(), p.clockEnv()...), log, log
	proc, err := startProcess(cmd, p.as, syscall.SIGINT)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-proc.done:
			return nil, fmt.Errorf("server ended while starting (%w): %s", proc.err, tail(p.logFile(), info.Size()))
		case <-ctx.Done():
			proc.kill()
			return nil, fmt.Errorf("wait for the server to be ready: %w", context.Cause(ctx))
		case <-tick.C:
			if p.ready(proc.pid()) {
				return proc, nil
			}
		}
	}
}

// URL returns the address of a database for the superuser, as a postgres:// URL without TLS. It changes only
// when Restart finds the port taken.
func (p *Postgres) URL(db string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, p.password),
		Host: net.JoinHostPort(loopback, strconv.FormatInt(p.port.Load(), 10)), Path: "/" + db, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// CreateDatabase makes the database name unless it exists.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) error {
	// The driver "postgres" is registered by the library that fetches the binaries.
	db, err := sql.Open("postgres", p.URL(superuser))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer db.Close()
	exists := func() (found bool, err error) {
		err = db.QueryRowContext(ctx, `select exists (select 1 from pg_database where datname = $1)`, name).Scan(&found)
		return found, err
	}
	if found, err := exists(); err != nil || found {
		return wrap(err, "look for database %s", name)
	}
	if _, err := db.ExecContext(ctx, `create database `+quoteIdent(name)); err != nil {
		if found, _ := exists(); found { // somebody was faster
			return nil
		}
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// quoteIdent makes name safe as an SQL identifier.
func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Stop shuts the server down, cutting its connections, and kills it when ctx ends first. Temporary files are
// removed, a kept directory can be started again. The second call does nothing.
func (p *Postgres) Stop(ctx context.Context) error {
	// Fast: roll back, write everything, end. At once: write nothing, recover at the next start.
	return wrap(p.stop(ctx, syscall.SIGINT, syscall.SIGQUIT), "stop Postgres")
}

// StopImmediate ends the server as `pg_ctl stop -m immediate` does: all its processes at once, nothing is written or
// said to the clients. Restart brings it back through crash recovery.
func (p *Postgres) StopImmediate(ctx context.Context) error {
	return wrap(p.process().stop(ctx, syscall.SIGQUIT), "stop Postgres at once")
}

// Restart starts the server again, on the same port unless that is taken now. A server that still runs is shut down
// first.
func (p *Postgres) Restart(ctx context.Context) error {
	if err := p.process().stop(ctx, syscall.SIGINT); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	return wrap(p.launch(ctx, int(p.port.Load())), "restart Postgres")
}
