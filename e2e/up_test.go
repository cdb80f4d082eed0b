package e2e_test

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/internal/demo"
	"pavane/shared/postgres"
)

const (
	startLimit = demo.StartLimit
	stopLimit  = demo.StopLimit
	settle     = 12 * time.Second // for effects that are on their way: more than the session of a dead member
)

// how says how `pavane up` is to run. The zero value is a demo of its own.
type how struct {
	bin      string // empty: the binaries as they are
	dir      string // empty: a fresh one
	embedded bool   // also where PAVANE_POSTGRES and PAVANE_KAFKA name servers
	user     *syscall.Credential
	args     []string
	env      []string // beside what the tests have
}

// up is a running `pavane up` whose databases are looked into.
type up struct {
	*demo.Demo
	t     testing.TB              // the one that looks at it now
	owner testing.TB              // the one that started it
	pools map[string]*postgres.DB // by database
}

// launch starts `pavane up` and does not wait for anything.
func launch(t testing.TB, h how) *up {
	t.Helper()
	if h.bin == "" {
		h.bin = binaries(t)
	}
	if h.dir == "" {
		h.dir = freshDir(t)
	}
	if !h.embedded {
		h.args = append(slices.Clone(h.args), existing(t)...)
	}
	d := demo.Launch(t, demo.Config{Bin: h.bin, Dir: h.dir, User: h.user, Args: h.args, Env: h.env})
	return &up{Demo: d, t: t, owner: t, pools: map[string]*postgres.DB{}}
}

// start starts `pavane up` and returns when it has shown its first orders.
func start(t testing.TB, h how) *up {
	t.Helper()
	u := launch(t, h)
	u.Await("page: ")
	return u
}

// with is the same demo in a subtest, which it outlives.
func (u *up) with(t testing.TB) *up {
	return &up{Demo: u.With(t), t: t, owner: u.owner, pools: u.pools}
}

// awaitReady waits until the gateway reaches the others.
func (u *up) awaitReady() {
	u.t.Helper()
	gw := u.Gateway()
	await.True(u.t, startLimit, "the gateway answers", func() bool {
		a, err := gw.Do(http.MethodGet, "/v1/products", "")
		return err == nil && a.Status == http.StatusOK && strings.Contains(a.Body, `"missing":[]`)
	})
}

// audit runs `pavane audit`, which must find nothing.
func (u *up) audit() {
	u.t.Helper()
	u.t.Log(u.Audit(settle))
}

// freshDir makes a directory that other users may walk into: as root, Postgres
// runs as somebody else.
func freshDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "up-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// existing returns the flags for the servers that the environment names, with
// names in them that nobody else uses.
func existing(t testing.TB) (flags []string) {
	t.Helper()
	name := "e2e_" + strings.ToLower(rand.Text()[:12])
	if kafka := os.Getenv("PAVANE_KAFKA"); kafka != "" {
		flags = append(flags, "--kafka", kafka, "--namespace", name+".")
	}
	if shared.postgres != "" {
		flags = append(flags, "--postgres", ownSchemas(t, name))
	}
	return flags
}

// ownSchemas makes a schema of that name in each database of the demo and returns
// the URL that leads there.
func ownSchemas(t testing.TB, name string) string {
	t.Helper()
	for _, database := range []string{"orders", "payments", "inventory", "notifications"} {
		createDatabase(t, database)
		onServer(t, database, func(db *sqlx.DB) error {
			_, err := db.Exec(`create schema ` + name)
			return err
		})
		t.Cleanup(func() {
			onServer(t, database, func(db *sqlx.DB) error {
				_, err := db.Exec(`drop schema ` + name + ` cascade`)
				return err
			})
		})
	}
	u, err := url.Parse(shared.postgres)
	must(t, err)
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// createDatabase makes a database where it is missing; no two tests at once.
func createDatabase(t testing.TB, name string) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	onServer(t, "", func(db *sqlx.DB) error {
		exists := false
		err := db.Get(&exists, `select exists (select from pg_database where datname = $1)`, name)
		if err == nil && !exists {
			_, err = db.Exec(`create database ` + name)
		}
		return err
	})
}

// onServer works on a database of the existing server; empty is the one that its
// URL names.
func onServer(t testing.TB, database string, f func(*sqlx.DB) error) {
	t.Helper()
	u, err := url.Parse(shared.postgres)
	must(t, err)
	if database != "" {
		u.Path = "/" + database
	}
	db, err := sqlx.Connect("postgres", u.String())
	must(t, err)
	must(t, errors.Join(f(db), db.Close()))
}
