package answers_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
	"pavane/shared/react"
	"pavane/shared/relay"
)

const partitions = 3

// fact is told by the writer, echo by the reaction on it.
type fact struct {
	ID string `json:"id"`
	N  int64  `json:"n"`
}

func (fact) Kind() string  { return "fact.told.v1" }
func (f fact) Key() string { return f.ID }

type echo struct{ fact }

func (echo) Kind() string { return "echo.told.v1" }

// address is where a part of a lane finds its servers: behind the proxies.
type address struct {
	database, broker string
	facts, echoes    string // topics
	group            string
}

func (a address) topics() event.Topics { return event.Topics{"fact": a.facts, "echo": a.echoes} }

func (a address) pool(conns int) (*postgres.DB, error) {
	return postgres.Open(postgres.Config{URL: a.database, MaxConns: conns, StatementTimeout: networkTimeout - 500*time.Millisecond, NetworkTimeout: networkTimeout})
}

// service is what a service process is made of: a consumer with its reaction, and
// relays for what the reaction and the writer append.
type service struct {
	address
	relays int
	log    *slog.Logger
	fail   func(error)
}

// run lives like a process: it opens what it needs, works until ctx ends, and
// closes it all.
func (s service) run(ctx context.Context) {
	var parts sync.WaitGroup
	for range s.relays {
		parts.Go(func() { s.publish(ctx) })
	}
	parts.Go(func() { s.consume(ctx) })
	parts.Wait()
}

func (s service) dial() *broker.Client {
	client, err := broker.Dial(broker.Config{Brokers: []string{s.broker}, Topics: []string{s.facts, s.echoes}, Timeout: brokerTimeout, Logger: s.log})
	if err != nil {
		panic(err) // the address is the proxy's
	}
	return client
}

func (s service) publish(ctx context.Context) {
	cfg := relay.Pool(s.database)
	cfg.StatementTimeout, cfg.NetworkTimeout = networkTimeout-500*time.Millisecond, networkTimeout
	db, err := postgres.Open(cfg)
	if err != nil {
		s.fail(err)
		return
	}
	defer db.Close() //nolint:errcheck // its connections may be broken by now
	client := s.dial()
	defer client.Close()
	r, err := relay.New(relay.Config{DB: db, Publisher: client, Partitions: partitions, Logger: s.log})
	if err == nil {
		err = r.Run(ctx)
	}
	if err != nil {
		s.fail(fmt.Errorf("relay: %w", err))
	}
}

func (s service) consume(ctx context.Context) {
	db, err := s.pool(4)
	if err != nil {
		s.fail(err)
		return
	}
	defer db.Close() //nolint:errcheck // its connections may be broken by now
	client := s.dial()
	defer client.Close()
	out, err := s.outbox()
	if err != nil {
		s.fail(err)
		return
	}
	c, err := react.NewConsumer(react.ConsumerConfig{
		Service: s.group, DB: db, Outbox: out, Source: client, Topics: []string{s.facts}, Partitions: partitions,
		Reactions: []react.Reaction{react.On(reaction, echo{})}, Logger: s.log,
	})
	if err == nil {
		err = c.Run(ctx)
	}
	if err != nil {
		s.fail(fmt.Errorf("consumer: %w", err))
	}
}

func (a address) outbox() (*outbox.Outbox, error) {
	return outbox.New(outbox.Config{Source: "/lane", Topics: a.topics()})
}

// reaction has an effect that shows whether it happened once and in order, and
// tells of it.
func reaction(ctx context.Context, tx *sqlx.Tx, f fact) ([]event.Numbered, error) {
	if _, err := tx.ExecContext(ctx, `insert into effect (key, n) values ($1, $2)`, f.ID, f.N); err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `insert into total as t (key, n) values ($1, $2) on conflict (key) do update set n = t.n + excluded.n`, f.ID, f.N); err != nil {
		return nil, err
	}
	return event.Number(f.N, echo{fact{ID: "echo-" + f.ID, N: f.N}}), nil
}

// rollback ends a transaction on purpose.
type rollback struct{}

func (rollback) Error() string { return "rolled back on purpose" }

const writerKeys = 5

// writer commits units of one to three facts for a key. A unit whose outcome is
// unknown is tried again under its number, as a client repeats a request under
// its idempotency key.
type writer struct {
	address
	db   *postgres.DB
	out  *outbox.Outbox
	unit int64 // units that are surely committed
	told int64 // facts in them
}

// pace is the time between two units.
const pace = 100 * time.Millisecond

// write commits units until ctx ends, and never leaves one open.
func (w *writer) write(ctx context.Context, rng *rand.Rand) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		key, n := fmt.Sprint("key-", rng.IntN(writerKeys)), 1+rng.Int64N(3)
		if rng.IntN(6) == 0 {
			_ = w.once(context.Background(), -1, key, n, rollback{}) // whatever becomes of it, nothing may stand
		}
		for begin := time.Now(); ; {
			err := w.once(context.Background(), w.unit+1, key, n, nil)
			if err == nil {
				break
			}
			if time.Since(begin) > patience {
				return fmt.Errorf("unit %d: %w", w.unit+1, err)
			}
		}
		w.unit++
		w.told += n
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// once writes a unit if it is not there yet.
func (w *writer) once(ctx context.Context, unit int64, key string, n int64, end error) error {
	return w.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		res, err := tx.ExecContext(ctx, `insert into unit (id) values ($1) on conflict do nothing`, unit)
		if err != nil {
			return err
		}
		if fresh, err := res.RowsAffected(); err != nil || fresh == 0 {
			return err
		}
		var version int64
		if err := tx.GetContext(ctx, &version, `update counter set version = version + $2 where key = $1 returning version`, key, n); err != nil {
			return err
		}
		events := make([]event.Event, n)
		for i := range events {
			events[i] = fact{ID: key, N: version - n + 1 + int64(i)}
		}
		if err := w.out.Append(ctx, tx, event.Number(version-n+1, events...)...); err != nil {
			return err
		}
		return end
	})
}
