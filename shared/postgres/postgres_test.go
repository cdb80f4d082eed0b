package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/internal/faultproxy"
	"pavane/shared/fault"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func exec(sql string, args ...any) func(context.Context, *sqlx.Tx) error {
	return func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, sql, args...)
		return err
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestInTx_PanicRollsBack(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	must(t, db.InTx(t.Context(), exec(`create table t (n int)`)))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			must(t, exec(`insert into t values (1)`)(ctx, tx))
			panic("on purpose")
		})
	}()
	var n int
	must(t, db.SQL().QueryRow(`select count(*) from t`).Scan(&n))
	if n != 0 {
		t.Errorf("%d rows after a panic, want none", n)
	}
}

func TestInTx_DeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	must(t, db.InTx(t.Context(), exec(`create table t (id int primary key, n int)`)))
	must(t, db.InTx(t.Context(), exec(`insert into t values (1, 0), (2, 0)`)))
	var met sync.WaitGroup
	met.Add(2)
	swap := func(first, second int) error {
		var once sync.Once
		return db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			if err := exec(`update t set n = n + 1 where id = $1`, first)(ctx, tx); err != nil {
				return err
			}
			once.Do(func() { met.Done(); met.Wait() }) // both hold their first lock
			return exec(`update t set n = n + 1 where id = $1`, second)(ctx, tx)
		})
	}
	errs := make(chan error, 2)
	go func() { errs <- swap(1, 2) }()
	go func() { errs <- swap(2, 1) }()
	must(t, errors.Join(<-errs, <-errs))
	var sum int
	must(t, db.SQL().QueryRow(`select sum(n) from t`).Scan(&sum))
	if sum != 4 {
		t.Errorf("sum %d, want 4: each of two transactions changes two rows once", sum)
	}
}

func TestInTx_WithinItself_IsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	err := db.InTx(t.Context(), func(ctx context.Context, _ *sqlx.Tx) error {
		return db.InTx(ctx, exec(`select 1`))
	})
	if err == nil {
		t.Error("a nested transaction is accepted")
	}
}

func TestOnCommit_RunsAfterCommitOnly(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t)
	runs := 0
	hook := func(ctx context.Context, _ *sqlx.Tx) error { postgres.OnCommit(ctx, func() { runs++ }); return nil }
	must(t, db.InTx(t.Context(), hook))
	stop := errors.New("stop")
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return errors.Join(hook(ctx, tx), stop) })
	if !errors.Is(err, stop) || runs != 1 {
		t.Errorf("%d runs, %v; want 1 run and stop", runs, err)
	}
}

func TestOpen_BadURL_SaysWhatToMend(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"postgres://u:p@h:notaport/db", "postgres://h"} {
		if _, err := postgres.Open(postgres.Config{URL: bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestOpen_FieldOutOfItsRange_IsNamedWithTheRemedy(t *testing.T) {
	t.Parallel()
	const url = "postgres://shop@h/db"
	for _, sound := range []postgres.Config{
		{URL: url},
		{URL: url, MaxConns: 1, ReadBuffer: 1, StatementTimeout: time.Millisecond, NetworkTimeout: time.Millisecond},
		{URL: url, StatementTimeout: 24 * time.Hour, NetworkTimeout: 240 * time.Hour},
	} {
		db, err := postgres.Open(sound)
		must(t, err)
		must(t, db.Close())
	}
	for want, bad := range map[string]postgres.Config{
		"MaxConns=-1 would be a pool without a bound: choose at least 1": {URL: url, MaxConns: -1},
		"ReadBuffer=-1: choose at least 1 byte":                          {URL: url, ReadBuffer: -1},
		"StatementTimeout=-1s: choose 1ms to 10 days":                    {URL: url, StatementTimeout: -time.Second},
		"StatementTimeout=100µs: choose 1ms":                             {URL: url, StatementTimeout: 100 * time.Microsecond},
		"StatementTimeout=600h0m0s: choose 1ms to 10 days":               {URL: url, StatementTimeout: 600 * time.Hour},
		"NetworkTimeout=-1s: choose 1ms":                                 {URL: url, NetworkTimeout: -time.Second},
		"NetworkTimeout=600h0m0s: choose 1ms":                            {URL: url, NetworkTimeout: 600 * time.Hour},
	} {
		if _, err := postgres.Open(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestOpen_UnreadableURL_ShowsNothingOfThePassword(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"postgres://shop:hunter2%@h/db", "postgres://shop:hunter2/x@h/db", "postgres://shop:x?hunter2@h/db", "postgres://shop:hunter2@h/db\x7f",
		"postgres//shop:hunter2@h/db", "postgres:/shop:hunter2@h/db", "POSTGRES://shop:hunter2@h/db", "shop:hunter2@h/db", "user=shop password=hunter2 db",
	} {
		_, opened := postgres.Open(postgres.Config{URL: bad})
		_, rung := postgres.OpenBell(postgres.Config{URL: bad}, "shelf")
		for _, err := range []error{opened, rung} {
			if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "percent-encode") {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	db, err := postgres.Open(postgres.Config{URL: "postgresql:///db?host=/run/postgresql"})
	if err != nil {
		t.Errorf("by a socket: %v", err)
	} else {
		must(t, db.Close())
	}
	if _, err := postgres.Open(postgres.Config{URL: "postgres://shop:hunter2@h/db?sslmode=some"}); err == nil || !strings.Contains(err.Error(), "some") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a parameter that is wrong: %v", err)
	}
}

// throughProxy opens a pool that reaches the test's own schema by a proxy, and one
// that reaches it directly.
func throughProxy(t *testing.T, cfg postgres.Config) (db *postgres.DB, p *faultproxy.Proxy, direct *postgres.DB) {
	t.Helper()
	raw := pgtest.URL(t)
	u, err := url.Parse(raw)
	must(t, err)
	p, err = faultproxy.Start(faultproxy.Config{Protocol: faultproxy.Postgres, Target: u.Host})
	must(t, err)
	t.Cleanup(p.Close)
	u.Host = p.Addr()
	cfg.URL = u.String()
	db, err = postgres.Open(cfg)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db, p, pgtest.Open(t, raw)
}

func TestInTx_SilentNetwork_ComesBackWithinTheNetworkTimeout(t *testing.T) {
	t.Parallel()
	db, p, _ := throughProxy(t, postgres.Config{NetworkTimeout: 300 * time.Millisecond, StatementTimeout: 200 * time.Millisecond})
	// The timeouts are so short that on a busy machine a sound network misses them, too.
	await.True(t, time.Minute, "the server is reached", func() bool { return db.Ping(t.Context()) == nil })
	p.Part()
	started := time.Now()
	err := db.InTx(t.Context(), exec(`select 1`))
	if took := time.Since(started); err == nil || took > 30*time.Second {
		t.Fatalf("call on a silent network: %v after %v, want an error within the timeouts of a few attempts", err, took)
	}
	if !postgres.Retryable(err) && fault.ClassOf(err) != fault.ClassUnavailable {
		t.Errorf("error %v is not one to retry", err)
	}
}

func TestInTx_AnswerToCommitLost_IsUnknownNotFailed(t *testing.T) {
	t.Parallel()
	db, p, direct := throughProxy(t, postgres.Config{MaxConns: 1})
	must(t, direct.InTx(t.Context(), exec(`create table t (n int)`)))
	p.Arm("COMMIT", 1, faultproxy.Cut, 0)
	err := db.InTx(t.Context(), exec(`insert into t values (1)`))
	if !errors.Is(err, postgres.ErrCommitUnknown) {
		t.Fatalf("err = %v, want ErrCommitUnknown", err)
	}
	if fault.ClassOf(err) != fault.ClassUnavailable {
		t.Errorf("class %v, want unavailable: the caller runs the unit again", fault.ClassOf(err))
	}
}
