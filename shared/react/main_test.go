package react_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/internal/leaks"
	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/react"
)

func TestMain(m *testing.M) {
	os.Exit(leaks.Main(func() int { return pgtest.Main(m) }))
}

const (
	source = "/test"
	topic  = "tests.events.v1"
)

// did is the event the tests deliver; N is its place in its key, so that an
// effect out of order shows. Do tells the handler how to behave.
type did struct {
	ID string `json:"id"`
	N  int64  `json:"n"`
	Do string `json:"do,omitempty"`
}

func (did) Kind() string  { return "test.did.v1" }
func (d did) Key() string { return d.ID }

type told struct {
	ID string `json:"id"`
	N  int64  `json:"n"`
}

func (told) Kind() string  { return "told.it.v1" }
func (e told) Key() string { return e.ID }

type secret struct{ told }

func (secret) Kind() string { return "told.secret.v1" }

// rig is a service with one reaction: every event becomes a row in effect and
// an event in the outbox.
type rig struct {
	t      testing.TB
	db     *postgres.DB
	out    *outbox.Outbox
	reg    *prometheus.Registry
	offset map[int32]int64
	many   bool // its reactions take many events at once
}

// bothWays runs a test with reactions on single events and on many.
func bothWays(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	for name, many := range map[string]bool{"On": false, "OnBatch": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.many = many
			test(t, r)
		})
	}
}

// on binds a handler the way of the rig.
func on[E event.Event](r *rig, h react.Handler[E]) react.Reaction {
	if !r.many {
		return react.On(h, told{})
	}
	return react.OnBatch(func(ctx context.Context, tx *sqlx.Tx, batch []E) ([][]event.Numbered, error) {
		all := make([][]event.Numbered, len(batch))
		for i, e := range batch {
			var err error
			if all[i], err = h(ctx, tx, e); err != nil {
				return nil, err
			}
		}
		return all, nil
	}, told{})
}

// reaction is the rig's own.
func (r *rig) reaction() react.Reaction {
	if r.many {
		return react.OnBatch(r.reactAll, told{})
	}
	return react.On(r.react, told{})
}

func newRig(t testing.TB) *rig {
	t.Helper()
	db := pgtest.WithKit(t)
	r := &rig{t: t, db: db, reg: prometheus.NewRegistry(), offset: map[int32]int64{}}
	r.exec(`create table effect (place bigint generated always as identity, key text not null, n bigint not null)`)
	r.exec(`create table promise (key text primary key, broken boolean not null)`)
	r.exec(`create function no_broken() returns trigger language plpgsql as $$
begin if new.broken then raise exception 'the promise of % is broken', new.key; end if; return new; end $$`)
	r.exec(`create constraint trigger kept after insert on promise deferrable initially deferred for each row execute function no_broken()`)
	var err error
	r.out, err = outbox.New(outbox.Config{Source: "/rig", Topics: event.Topics{"told": "told.events.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// react is the handler's behaviour: what the event asks for, else one effect
// and one event.
func (r *rig) react(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
	switch e.Do {
	case "permanent":
		return nil, fault.Permanent("never")
	case "fail":
		return nil, errors.New("not now")
	case "panic":
		panic("no")
	case "secret":
		return event.Number(e.N, secret{told{ID: e.ID, N: e.N}}), nil
	case "break promise":
		_, err := tx.ExecContext(ctx, `insert into promise (key, broken) values ($1, true)`, e.ID)
		return nil, err
	case "swallow":
		_, _ = tx.ExecContext(ctx, `select 1/0`)
		return nil, nil
	}
	if _, err := tx.ExecContext(ctx, `insert into effect (key, n) values ($1, $2)`, e.ID, e.N); err != nil {
		return nil, err
	}
	return event.Number(e.N, told{ID: e.ID, N: e.N}), nil
}

// reactAll is react in one statement for all events that ask for nothing else.
func (r *rig) reactAll(ctx context.Context, tx *sqlx.Tx, batch []did) ([][]event.Numbered, error) {
	all := make([][]event.Numbered, len(batch))
	var (
		keys    []string
		numbers []int64
	)
	for i, e := range batch {
		if e.Do != "" {
			var err error
			if all[i], err = r.react(ctx, tx, e); err != nil {
				return nil, err
			}
			continue
		}
		keys, numbers = append(keys, e.ID), append(numbers, e.N)
		all[i] = event.Number(e.N, told{ID: e.ID, N: e.N})
	}
	const insert = `insert into effect (key, n)
select t.key, t.n from unnest($1::text[], $2::bigint[]) with ordinality as t (key, n, place) order by t.place`
	_, err := tx.ExecContext(ctx, insert, postgres.Array(keys), postgres.Array(numbers))
	return all, err
}

func (r *rig) config() react.ConsumerConfig {
	return react.ConsumerConfig{
		Service: "rig", DB: r.db, Outbox: r.out, Source: noSource{}, Topics: []string{topic}, Partitions: 1,
		Reactions: []react.Reaction{r.reaction()}, RetryDelay: time.Millisecond, MaxAttempts: 3, Metrics: r.reg,
	}
}

func (r *rig) consumer(change ...func(*react.ConsumerConfig)) *react.Consumer {
	r.t.Helper()
	cfg := r.config()
	for _, f := range change {
		f(&cfg)
	}
	c, err := react.NewConsumer(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// record makes the next record of partition 0.
func (r *rig) record(key string, n int64, do string) broker.Record {
	return r.next(did{ID: key, N: n, Do: do}, n)
}

func (r *rig) next(e event.Event, n int64) broker.Record {
	rec := record(e, n)
	rec.Offset = r.offset[0]
	r.offset[0]++
	return rec
}

func record(e event.Event, sequence int64) broker.Record {
	data, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	env := event.Envelope{
		ID: fmt.Sprintf("%s-%d", e.Key(), sequence), Source: source, Kind: e.Kind(), Key: e.Key(), Sequence: sequence,
		CorrelationID: "saga-" + e.Key(), Data: data,
	}
	return broker.Record{Topic: topic, Key: []byte(e.Key()), Value: data, Headers: env.Headers()}
}

func (r *rig) exec(query string, args ...any) {
	r.t.Helper()
	err := r.db.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// effects returns the numbers applied of a key, in order.
func (r *rig) effects(key string) []int64 {
	r.t.Helper()
	return selected[int64](r, `select n from effect where key = $1 order by place`, key)
}

// published returns the numbers in the outbox of a key, in order.
func (r *rig) published(key string) []int64 {
	r.t.Helper()
	return selected[int64](r, `select sequence from outbox where key = $1 order by id`, key)
}

func selected[T any](r *rig, query string, args ...any) []T {
	r.t.Helper()
	var list []T
	err := r.db.Read(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		list = nil
		return tx.SelectContext(ctx, &list, query, args...)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func (r *rig) parked() []inbox.Group {
	r.t.Helper()
	groups, err := inbox.List(context.Background(), r.db, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	return groups
}

func (r *rig) metric(name string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			var sum float64
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
			return sum
		}
	}
	r.t.Fatalf("no metric %s", name)
	return 0
}

func (r *rig) deliver(c *react.Consumer, records ...broker.Record) {
	r.t.Helper()
	r.deliverIn(r.t.Context(), c, records...)
}

func (r *rig) deliverIn(ctx context.Context, c *react.Consumer, records ...broker.Record) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := c.Deliver(ctx, records...); err != nil {
		r.t.Fatal(err)
	}
}

// requireDense fails unless the key has the effects and events 1 … n, once
// each, in order.
func (r *rig) requireDense(key string, n int64) {
	r.t.Helper()
	want := make([]int64, n)
	for i := range want {
		want[i] = int64(i) + 1
	}
	requireEqual(r.t, "effects of "+key, r.effects(key), want)
	requireEqual(r.t, "events of "+key, r.published(key), want)
}

func requireEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s: got %s, want %s", what, g, w)
	}
}

type noSource struct{}

func (noSource) Group(context.Context, broker.GroupConfig, func(context.Context, *broker.Assignment) error) error {
	return nil
}

func (noSource) Fetch(context.Context, []broker.Position, time.Duration, int) (broker.Fetched, error) {
	return broker.Fetched{}, nil
}

func (noSource) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	return nil, nil
}
