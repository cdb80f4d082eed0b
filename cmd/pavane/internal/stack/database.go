package stack

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/shared/postgres"
)

const (
	databaseExistsSQL = `select exists (select from pg_database where datname = $1)`
	roleExistsSQL     = `select exists (select from pg_roles where rolname = $1)`
	// Several stacks may share a server, each with a schema of its own; Postgres
	// refuses the second of two changes of one role at a time.
	rolesLockSQL = `select pg_advisory_xact_lock(hashtextextended('pavane up roles', 0))`
)

// databaseName is what needs no quoting.
var databaseName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// checkNames refuses a database of somebody's own that has another name than
// statements take as it is, or that of a service's.
func checkNames(databases []string) error {
	for _, name := range databases {
		if !databaseName.MatchString(name) {
			return fmt.Errorf("--database %q: take small letters, digits and _, such as parcels", name)
		}
		if slices.ContainsFunc(services(), func(svc service) bool { return svc.database == name }) {
			return fmt.Errorf("--database %s: a service of the demo has it; take another name", name)
		}
	}
	return nil
}

// createDatabases makes one database per service and those that were asked for
// where they are missing, and the role that each service runs as.
func (s *Stack) createDatabases(ctx context.Context) error {
	db, err := postgres.Open(postgres.Config{URL: s.cfg.Postgres, MaxConns: 1})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing is left to be done on it
	names := slices.Clone(s.cfg.Databases)
	for _, d := range Databases() {
		names = append(names, d.Name)
	}
	for _, name := range names {
		var there bool
		if err := db.SQL().QueryRowContext(ctx, databaseExistsSQL, name).Scan(&there); err != nil {
			return fmt.Errorf("look for database %s: %w", name, err)
		}
		if there {
			continue
		}
		if _, err := db.SQL().ExecContext(ctx, "create database "+name); err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	return s.createRoles(ctx, db)
}

// createRoles makes the roles that the services run as.
func (s *Stack) createRoles(ctx context.Context, db *postgres.DB) error {
	return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, rolesLockSQL); err != nil {
			return err
		}
		for _, svc := range services() {
			if svc.database == "" {
				continue
			}
			var there bool
			if err := tx.GetContext(ctx, &there, roleExistsSQL, svc.role()); err != nil {
				return fmt.Errorf("look for role %s: %w", svc.role(), err)
			}
			verb := "create"
			if there {
				verb = "alter"
			}
			if _, err := tx.ExecContext(ctx, fmt.Sprintf("%s role %s login password '%s'", verb, svc.role(), s.password(svc))); err != nil {
				return fmt.Errorf("%s role %s: %w", verb, svc.role(), err)
			}
		}
		return nil
	})
}

func (s service) role() string { return "pavane_" + s.database }

// checkPassword refuses a server's URL without a password: those of the services'
// roles follow from it, and anybody could work them out from none.
func checkPassword(server string) error {
	if u, err := url.Parse(server); server == "" || err != nil || secretOf(u) != "" {
		return nil // none is given, or opening it says what is wrong
	}
	return errors.New("--postgres: the URL names no password, and those of the services' roles are made from it: give postgres://user:password@host:port, and any password where the server asks for none")
}

func secretOf(u *url.URL) string {
	password, _ := u.User.Password()
	return password
}

// password is that of a service's role. It follows from the one that we were
// given for the server, so that stacks on one server agree.
func (s *Stack) password(svc service) string {
	var secret string
	if u, err := url.Parse(s.cfg.Postgres); err == nil {
		secret = secretOf(u)
	}
	code := hmac.New(sha256.New, []byte(secret))
	code.Write([]byte(svc.role()))
	return hex.EncodeToString(code.Sum(nil))
}

// migrate has each service apply its migrations as the owner, who grants the
// service's own role what it needs.
func (s *Stack) migrate(ctx context.Context) error {
	dir, err := binDir()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, svc := range services() {
		if svc.database == "" {
			continue
		}
		cmd := exec.CommandContext(ctx, filepath.Join(dir, svc.name), "-migrate")
		cmd.Env = s.migrateEnv(svc)
		group.Go(func() error {
			out, err := cmd.CombinedOutput()
			if err != nil {
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				return fmt.Errorf("%s -migrate: %w: %s", svc.name, err, lines[len(lines)-1])
			}
			return nil
		})
	}
	return group.Wait()
}

// migrateEnv is what a service is told that applies its migrations.
func (s *Stack) migrateEnv(svc service) []string {
	env := append(environ(),
		"PAVANE_BROKERS="+s.cfg.Kafka, "PAVANE_NAMESPACE="+s.cfg.Namespace, "PAVANE_HTTP_ADDR="+loopback(0),
		"PAVANE_DATABASE_FILE="+secretFile(s.cfg.Dir, svc.database+"-owner-url"), "PAVANE_RUNTIME_ROLE="+svc.role(),
	)
	return append(append(env, s.kafkaUser("migrate")...), s.cfg.Env...)
}

// runtimeURL is the service's database as the role that it runs as.
func (s *Stack) runtimeURL(svc service) string {
	u, err := url.Parse(s.postgresFor(svc.name))
	if err != nil {
		return s.postgresFor(svc.name) // opening it says what is wrong
	}
	u.User, u.Path = url.UserPassword(svc.role(), s.password(svc)), "/"+svc.database
	return u.String()
}
