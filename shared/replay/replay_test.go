package replay_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/replay"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	partitions = 3
	own        = "facts.events.v1"
)

type fact struct {
	ID string `json:"id"`
	N  int    `json:"n"`
}

func (fact) Kind() string  { return "fact.told.v1" }
func (f fact) Key() string { return f.ID }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is an outbox with 40 rows of each of 10 keys, and a topic to be.
type bench struct {
	t      *testing.T
	db     *postgres.DB
	client *broker.Client
	cfg    replay.Config
}

func setup(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(brokertest.Start(t), ",")})
	must(t, err)
	t.Cleanup(client.Close)
	b := &bench{t: t, db: pgtest.WithKit(t), client: client}
	out, err := outbox.New(outbox.Config{Source: "/fact-svc", Topics: event.Topics{"fact": own}})
	must(t, err)
	for n := range int64(40) {
		must(t, b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			for k := range 10 {
				e := fact{ID: fmt.Sprint("key-", k), N: int(n)}
				if err := out.Append(ctx, tx, event.Number(n+1, e)...); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	b.cfg = replay.Config{
		Outboxes: []*postgres.DB{b.db}, Kafka: client, Sources: []string{own}, Partitions: partitions,
		To: "re-" + strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-"),
	}
	return b
}

// numbers returns the numbers of each key in the topic, in the order of the log.
func (b *bench) numbers() map[string][]int64 {
	b.t.Helper()
	ranges, err := b.client.Offsets(b.t.Context(), b.cfg.To)
	must(b.t, err)
	numbers := map[string][]int64{}
	for p, r := range ranges[b.cfg.To] {
		at := broker.Position{Topic: b.cfg.To, Partition: int32(p), Offset: r.First}
		for at.Offset < r.End {
			f, err := b.client.Fetch(b.t.Context(), []broker.Position{at}, time.Second, 8<<20)
			must(b.t, err)
			for _, rec := range f.Records {
				e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
				must(b.t, err)
				if want := fmt.Sprintf(`{"id":%q,"n":%d}`, e.Key, e.Sequence-1); string(e.Data) != want || e.Source != "/fact-svc" || e.ID == "" {
					b.t.Errorf("record %+v with data %s, want %s", e, e.Data, want)
				}
				numbers[e.Key] = append(numbers[e.Key], e.Sequence)
				at.Offset = rec.Offset + 1
			}
		}
	}
	return numbers
}

// lossy loses every second answer of the broker.
type lossy struct {
	*broker.Client
	n int
}

func (l *lossy) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	results := l.Client.Produce(ctx, batches)
	if l.n++; l.n%2 == 1 {
		for i := range results {
			results[i].Err = errors.Join(broker.ErrUnavailable, results[i].Err)
		}
	}
	return results
}

func TestRun_AnswersLost_EachRowOnceInTheOrderOfItsKey(t *testing.T) {
	b := setup(t)
	b.cfg.Kafka = &lossy{Client: b.client}
	var told int64
	b.cfg.Progress = func(done, total int64) {
		if told = done; total != 400 {
			t.Errorf("progress: %d of %d, want of 400", done, total)
		}
	}
	done, err := replay.Run(t.Context(), b.cfg)
	must(t, err)
	if done != 400 || told != 400 {
		t.Errorf("%d rows published, %d told; want 400", done, told)
	}
	for k := range 10 {
		got := b.numbers()[fmt.Sprint("key-", k)]
		for i, n := range got {
			if n != int64(i)+1 {
				t.Fatalf("key-%d: number %d stands at place %d", k, n, i+1)
			}
		}
		if len(got) != 40 {
			t.Errorf("key-%d: %d records, want 40", k, len(got))
		}
	}
}

func TestRun_Selection_PublishesItAndNothingElse(t *testing.T) {
	b := setup(t)
	b.cfg.Key = "key-3"
	done, err := replay.Run(t.Context(), b.cfg)
	must(t, err)
	if got := b.numbers(); done != 40 || len(got) != 1 || len(got["key-3"]) != 40 {
		t.Errorf("%d rows published, %d keys; want the 40 of key-3", done, len(got))
	}
	var mid time.Time
	must(t, b.db.Get(t.Context(), &mid, `select o.created_at from outbox o where o.key = 'key-3' and o.sequence = 31`))
	b.cfg.Since, b.cfg.Append = mid, true
	p, err := replay.Prepare(t.Context(), b.cfg)
	must(t, err)
	if p.Rows != 10 || p.Cut != 1 || p.Holds != 40 {
		t.Errorf("plan %+v; want 10 rows of a key whose first are not among them, into a topic with 40", p)
	}
}

func TestRun_BrokenOff_NextOneRefusesAndAppendsOnlyWhenTold(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.cfg.Rate, b.cfg.Progress = 400, func(int64, int64) { cancel() }
	done, err := replay.Run(ctx, b.cfg)
	if !errors.Is(err, context.Canceled) || done != 100 {
		t.Fatalf("%d rows, %v; want 100 and an interruption", done, err)
	}
	b.cfg.Rate, b.cfg.Progress = 0, nil
	if _, err := replay.Run(t.Context(), b.cfg); fault.ClassOf(err) != fault.ClassInvalid || !strings.Contains(err.Error(), "holds 100 records") {
		t.Fatalf("into a part of a replay: %v; want a refusal that says what the topic holds", err)
	}
	b.cfg.Append = true
	done, err = replay.Run(t.Context(), b.cfg)
	must(t, err)
	if done != 400 {
		t.Errorf("%d rows appended, want all 400", done)
	}
}

func TestPrepare_BadRequest_IsRefusedAndMakesNothing(t *testing.T) {
	b := setup(t)
	must(t, b.client.EnsureTopics(t.Context(), []broker.Topic{{Name: b.cfg.To + "-wide", Partitions: partitions + 1, ReplicationFactor: 1}}))
	for name, c := range map[string]struct {
		change func(c *replay.Config)
		want   string
	}{
		"a service's own topic":  {func(c *replay.Config) { c.To = own }, "belongs to a service"},
		"name":                   {func(c *replay.Config) { c.To = "a b" }, "a name has"},
		"unknown source":         {func(c *replay.Config) { c.Topic = "other" }, "nobody publishes there"},
		"since after until":      {func(c *replay.Config) { c.Since, c.Until = time.Unix(2, 0), time.Unix(1, 0) }, "not before until"},
		"other partition count":  {func(c *replay.Config) { c.To += "-wide" }, "has 4 partitions"},
		"wider source":           {func(c *replay.Config) { c.Sources = []string{own, c.To + "-wide"} }, "has 4 partitions: want 3"},
		"rate below 0":           {func(c *replay.Config) { c.Rate = -1 }, "rate -1: choose rows per second from 0.001 on"},
		"rate that is no number": {func(c *replay.Config) { c.Rate = math.NaN() }, "rate NaN: choose"},
		"rate without a bound":   {func(c *replay.Config) { c.Rate = math.Inf(1) }, "rate +Inf: choose"},
		"rate of no clock":       {func(c *replay.Config) { c.Rate = 1e-300 }, "rate 1e-300: choose"},
		"copies below 0":         {func(c *replay.Config) { c.ReplicationFactor = -1 }, "replication factor -1: choose"},
		"more than is retained":  {func(c *replay.Config) { c.Since = time.Unix(1, 0) }, "are gone"},
		"nothing to read from":   {func(c *replay.Config) { c.Outboxes = nil }, "outboxes (0)"},
		"partitions left at 0":   {func(c *replay.Config) { c.Partitions = 0 }, "partitions (0)"},
		"no name for the target": {func(c *replay.Config) { c.To = "" }, "a name has"},
	} {
		cfg := b.cfg
		c.change(&cfg)
		if name == "more than is retained" {
			must(t, b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				_, err := tx.ExecContext(ctx, `create table outbox_20200101 partition of outbox for values from ('2020-01-01') to ('2020-01-02');
select outbox_drop('2020-01-03', pg_current_snapshot())`)
				return err
			}))
		}
		if _, err := replay.Prepare(t.Context(), cfg); fault.ClassOf(err) != fault.ClassInvalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want an invalid fault with %q", name, err, c.want)
		}
	}
	if _, err := b.client.Offsets(t.Context(), b.cfg.To); err == nil {
		t.Error("the topic was made")
	}
}
