// Package postgres owns access to PostgreSQL: connections that survive a silent
// network, transactions whose failed commit counts as unknown, and the classes
// of the database's errors. It is the only importer of the driver.
//
// What changes something goes through [DB.InTx], or is one statement and goes through
// [DB.ExecOnce]: database/sql may run any other autocommit statement twice and report
// success when an answer is lost (lib/pq#939), so money and stock must never be changed
// by one.
package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// Config says how to reach a database. Only URL is required.
type Config struct {
	// URL is "postgres://user:password@host:port/database?sslmode=…". Without
	// sslmode the connection is verify-full: a server that offers no proof of
	// its identity is refused. Run-time parameters such as search_path may be
	// added to it.
	URL string
	// MaxConns bounds the pool, from 1 on; 0 means 10.
	MaxConns int
	// StatementTimeout is the server's limit for one statement, 1 ms to 10 days; 0
	// means 10 s.
	StatementTimeout time.Duration
	// NetworkTimeout is how long a connection waits for the server's answer, 1 ms to
	// 10 days; 0 means StatementTimeout + 5 s. It is what frees a call on a silent
	// network whose context does not end; one that ends frees it after 1 s.
	NetworkTimeout time.Duration
	// ReadBuffer is the size in bytes of the buffer under each connection, from 1
	// on; 0 means 8 KiB. Readers of many rows want 256 KiB.
	ReadBuffer int
	// Name shows in pg_stat_activity; empty means "pavane".
	Name string
	// Settings are run-time parameters for each connection, such as work_mem. The
	// URL's come before them, and they before what follows from the fields above.
	Settings map[string]string
}

func (c *Config) setDefaults() {
	if c.MaxConns == 0 {
		c.MaxConns = 10
	}
	if c.StatementTimeout == 0 {
		c.StatementTimeout = 10 * time.Second
	}
	if c.NetworkTimeout == 0 {
		c.NetworkTimeout = c.StatementTimeout + 5*time.Second
	}
	if c.ReadBuffer == 0 {
		c.ReadBuffer = 8 << 10
	}
	if c.Name == "" {
		c.Name = "pavane"
	}
}

// The server counts its limits in milliseconds: below one is no limit at all, and
// above 24 days is refused at each login. One of them is twice the network timeout.
const (
	minTimeout = time.Millisecond
	maxTimeout = 10 * 24 * time.Hour
)

// validate refuses what could only fail later, or would be no bound.
func (c *Config) validate() error {
	switch {
	case c.MaxConns < 1:
		return fmt.Errorf("database: MaxConns=%d would be a pool without a bound: choose at least 1, or 0 for 10", c.MaxConns)
	case c.ReadBuffer < 1:
		return fmt.Errorf("database: ReadBuffer=%d: choose at least 1 byte, or 0 for 8 KiB", c.ReadBuffer)
	}
	return cmp.Or(
		inRange("StatementTimeout", c.StatementTimeout, "10 s"),
		inRange("NetworkTimeout", c.NetworkTimeout, "5 s more than StatementTimeout"),
	)
}

func inRange(field string, timeout time.Duration, zero string) error {
	if timeout >= minTimeout && timeout <= maxTimeout {
		return nil
	}
	return fmt.Errorf("database: %s=%s: choose %s to 10 days (%s), or 0 for %s", field, timeout, minTimeout, maxTimeout, zero)
}

// DB is a pool of connections to one database.
type DB struct {
	db *sqlx.DB
}

// Open makes the pool; it does not connect. An error means that the URL is
// malformed or another field out of its range; it shows no password.
func Open(cfg Config) (*DB, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if _, err := parseURL(cfg.URL); err != nil {
		return nil, err
	}
	pc, err := pq.NewConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if pc.Database == "" {
		return nil, fmt.Errorf("database URL: names no database; want postgres://user:password@host:port/database")
	}
	hardenTLS(&pc, cfg.URL)
	pc.ApplicationName = cfg.Name
	pc.ConnectTimeout = 5 * time.Second
	if pc.Runtime == nil {
		pc.Runtime = map[string]string{}
	}
	for key, value := range cfg.Settings {
		setDefault(pc.Runtime, key, value)
	}
	setDefault(pc.Runtime, "statement_timeout", milliseconds(cfg.StatementTimeout))
	setDefault(pc.Runtime, "lock_timeout", milliseconds(cfg.StatementTimeout))
	setDefault(pc.Runtime, "idle_in_transaction_session_timeout", milliseconds(2*cfg.NetworkTimeout))
	connector, err := pq.NewConnectorConfig(pc)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	connector.Dialer(dialer{limit: cfg.NetworkTimeout, buffer: cfg.ReadBuffer})
	pool := sql.OpenDB(preparing{connector})
	pool.SetMaxOpenConns(cfg.MaxConns)
	pool.SetMaxIdleConns(cfg.MaxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(30 * time.Minute) // a pool must not cling to a demoted primary
	return &DB{db: sqlx.NewDb(pool, "postgres")}, nil
}

// parseURL reads the URL of a database. Its error repeats nothing of what may hold
// a password, as those of package url and of the driver do.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || !strings.HasPrefix(s, "postgres://") && !strings.HasPrefix(s, "postgresql://") {
		return nil, errors.New("database URL (not shown) cannot be read: want postgres://user:password@host:port/database; percent-encode what is special in user and password")
	}
	return u, nil
}

// hardenTLS makes verify-full the mode of a URL that names none.
func hardenTLS(pc *pq.Config, raw string) {
	if !mentionsSSLMode(raw) {
		pc.SSLMode = pq.SSLModeVerifyFull
	}
}

func setDefault(m map[string]string, key, value string) {
	if _, ok := m[key]; !ok {
		m[key] = value
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// SQL returns the pool for what needs database/sql itself: migrations, prepared
// statements, pool statistics. Writes go through [DB.InTx] and [DB.ExecOnce].
func (d *DB) SQL() *sql.DB { return d.db.DB }

// Ping asks the server for an answer.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.db.PingContext(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// Close closes every connection.
func (d *DB) Close() error { return d.db.Close() }

// Array passes a slice to a statement and scans one back. Only typed slices
// ([]int64, []string, [][]byte) keep off the driver's slow reflective path.
func Array(slice any) interface {
	driver.Valuer
	sql.Scanner
} {
	return pq.Array(slice)
}
