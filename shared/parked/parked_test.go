package parked_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/outbox"
	"pavane/shared/parked"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/react"
	"pavane/shared/relay"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	topic  = "parcels.events.v1"
	source = "/parcel-svc"
)

// sent is the event of these tests; N is its place in its key.
type sent struct {
	ID     string `json:"id"`
	N      int64  `json:"n"`
	Poison bool   `json:"poison,omitempty"`
}

func (sent) Kind() string  { return "parcel.sent.v1" }
func (e sent) Key() string { return e.ID }

// bench is a service whose handler cannot do with poison until it is mended.
type bench struct {
	t        testing.TB
	db       *postgres.DB
	consumer *react.Consumer
	mu       sync.Mutex
	mended   bool
	offset   int64
}

func setup(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, db: pgtest.WithKit(t)}
	b.exec(`create table effect (place bigint generated always as identity, key text not null, n bigint not null)`)
	out, err := outbox.New(outbox.Config{Source: "/bench", Topics: event.Topics{"parcel": topic}})
	must(t, err)
	b.consumer, err = react.NewConsumer(react.ConsumerConfig{
		Service: "bench", DB: b.db, Outbox: out, Source: nowhere{}, Topics: []string{topic}, Partitions: 1, MaxAttempts: 1,
		Sources: map[string]string{topic: source}, Reactions: []react.Reaction{react.On(b.handle)},
	})
	must(t, err)
	return b
}

func (b *bench) handle(ctx context.Context, tx *sqlx.Tx, e sent) ([]event.Numbered, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Poison && !b.mended {
		return nil, fault.Permanent("poison")
	}
	_, err := tx.ExecContext(ctx, `insert into effect (key, n) values ($1, $2)`, e.ID, e.N)
	return nil, err
}

func (b *bench) mend(mended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mended = mended
}

// record makes the next record of the log.
func (b *bench) record(key string, n int64, poison bool) broker.Record {
	data, err := json.Marshal(sent{ID: key, N: n, Poison: poison})
	must(b.t, err)
	env := event.Envelope{ID: fmt.Sprint(key, n), Source: source, Kind: sent{}.Kind(), Key: key, Sequence: n, Data: data}
	b.offset++
	return broker.Record{Topic: topic, Offset: b.offset - 1, Key: []byte(key), Value: data, Headers: env.Headers()}
}

func (b *bench) deliver(records ...broker.Record) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(b.t, b.consumer.Deliver(ctx, records...))
}

func (b *bench) list(f parked.Filter) []parked.Key {
	b.t.Helper()
	keys, err := parked.List(context.Background(), b.db, f)
	must(b.t, err)
	return keys
}

func (b *bench) effects(key string) (numbers []int64) {
	b.t.Helper()
	must(b.t, b.db.Select(context.Background(), &numbers, `select e.n from effect e where e.key = $1 order by e.place`, key))
	return numbers
}

func (b *bench) exec(query string) {
	b.t.Helper()
	must(b.t, b.db.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, query)
		return err
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDo_ByCause_MovesThatCauseAndLeavesTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a1, a2, b1, gap3, forged := b.record("a", 1, true), b.record("a", 2, false), b.record("b", 1, true), b.record("gap", 3, false), b.record("f", 1, false)
	forged.Headers = event.Envelope{ID: "x", Source: "/other", Kind: sent{}.Kind(), Key: "f", Sequence: 1}.Headers()
	b.deliver(a1, a2, b1, gap3, forged)
	if keys := b.list(parked.Filter{}); len(keys) != 4 {
		t.Fatalf("parked: %+v; want four keys", keys)
	}
	b.mend(true)
	for _, k := range b.list(parked.Filter{Cause: inbox.Fault}) {
		n, err := k.Do(t.Context(), b.db, parked.Redrive, "ada", "mended")
		must(t, err)
		if n != 1 {
			t.Errorf("%d records of %s were let go, want the one that failed", n, k.Key)
		}
	}
	b.deliver()
	if a, other := b.effects("a"), b.effects("b"); len(a) != 2 || len(other) != 1 {
		t.Errorf("effects %v and %v, want two and one", a, other)
	}
	gap := b.list(parked.Filter{Cause: inbox.Missing})[0]
	if _, err := gap.Do(t.Context(), b.db, parked.Redrive, "ada", "to see"); fault.ClassOf(err) != fault.ClassInvalid {
		t.Errorf("redrive of a gap: %v; want an invalid fault", err)
	}
	for range 2 { // the second time nothing is left to do
		for _, k := range []parked.Key{gap, b.list(parked.Filter{Key: new("f")})[0]} {
			_, err := k.Do(t.Context(), b.db, parked.Discard, "ada", "they never come")
			must(t, err)
		}
		b.deliver(b.record("f", 2, false))
	}
	if got := b.effects("gap"); len(got) != 1 {
		t.Errorf("behind the discarded gap: %v, want one effect", got)
	}
}

// What a service serves must say the same as the list of all, however few keys
// it reads.
func TestByCause_FewerKeysThanWait_CountsAllAndShowsTheFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"a", "b", "c"} {
		b.deliver(b.record(key, 1, true), b.record(key, 2, false), b.record("gap of "+key, 3, false))
	}
	b.deliver(b.record("d", 5, false))
	b.exec(`insert into relay_parked (key, topic, since_id, chunk, reason) values ('r', 't', 1, 1, 'too large'), ('s', 't', 2, 1, 'too large')`)
	b.exec(`insert into inbox (source, key, last_seq) values ('` + source + `', 'gap of b', 1)`)
	all := map[inbox.Cause][]parked.Key{}
	for _, k := range b.list(parked.Filter{}) {
		all[k.Cause] = append(all[k.Cause], k)
	}
	for _, limit := range []int{1, 2, 100} {
		groups, err := parked.ByCause(t.Context(), b.db, limit)
		must(t, err)
		if len(groups) != len(all) || groups[len(groups)-1].Cause != parked.Refused {
			t.Fatalf("%d groups of at most %d: %+v; want %d, what Kafka refuses last", len(groups), limit, groups, len(all))
		}
		for _, g := range groups {
			keys := all[g.Cause]
			if want := keys[:min(limit, len(keys))]; g.Count != len(keys) || !g.Oldest.Equal(keys[0].Since) || !reflect.DeepEqual(g.Keys, want) {
				t.Errorf("at most %d of %s: %+v; want %d in all and %+v", limit, g.Cause, g, len(keys), want)
			}
		}
	}
}

// A page is a thousand keys.
func TestEach_MoreKeysThanAPage_MeetsEachOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`insert into parked (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause)
select '/source ' || n % 3, (n / 6)::text, 1 + n / 3 % 2, 't', 0, n, 'kind', '', '', 'why', case n / 3 % 2 when 0 then 'fault' else 'follows' end
from generate_series(0, 7499) n`)
	b.exec(`insert into relay_parked (key, topic, since_id, chunk, reason) select n::text, 't', n, 1, 'too large' from generate_series(1, 1500) n`)
	met := map[[2]string]bool{}
	for k, err := range parked.Each(t.Context(), b.db, parked.Filter{}) {
		must(t, err)
		place := [2]string{k.Source, k.Key}
		if met[place] || (k.Cause == inbox.Fault) != (k.Records == 2 && k.Sequence == 1) {
			t.Fatalf("met before or told wrongly: %+v", k)
		}
		met[place] = true
	}
	if len(met) != 3750+1500 {
		t.Errorf("met %d keys, want 3,750 and 1,500 that Kafka refuses", len(met))
	}
	if n := len(b.list(parked.Filter{Source: "/source 1"})); n != 1250 {
		t.Errorf("%d of one source, want 1,250", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n, last := 0, error(nil)
	for _, last = range parked.Each(ctx, b.db, parked.Filter{}) {
		n++
		cancel()
	}
	if n > 1001 || last == nil {
		t.Errorf("an ended context: %d keys and %v at last, want an error in place of the next page", n, last)
	}
}

func TestShow_TellsRecordsWithHeadersAndWhatWasDone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second, hostile := b.record("a", 1, true), b.record("a", 2, false), b.record("a", 3, false)
	hostile.Headers, hostile.Value = []event.Header{{Key: "x\xff", Value: []byte("\x00\x1b")}}, []byte("\xff\x00")
	b.deliver(first, second, hostile)
	for _, k := range b.list(parked.Filter{Cause: inbox.Fault}) {
		_, err := k.Do(t.Context(), b.db, parked.Redrive, "ada", "to see")
		must(t, err)
	}
	b.deliver()
	records, moves, err := parked.Show(t.Context(), b.db, "a", 10)
	must(t, err)
	if len(records) != 3 || len(moves) != 1 || moves[0].Who != "ada" || moves[0].Why != "to see" {
		t.Fatalf("%d records, moves %+v; want 3 and one of ada", len(records), moves)
	}
	text, err := json.Marshal(records)
	must(t, err)
	for _, want := range []string{`ce_sequence`, `poison`, `waits for number 1`, `\\xff\\x00`, `"key":"\"x\\xff\""`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
}

// Whatever operators do, at once and again and again, while records come: what
// has an effect has it once and in the order of its key, and what has none was
// discarded by somebody, once.
func TestDo_AnythingAtOnceWhileRecordsCome_KeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	b, round := setup(t), 0
	rapid.Check(t, func(rt *rapid.T) {
		numbers := map[string]int64{}
		round++
		for range rapid.IntRange(2, 12).Draw(rt, "steps") {
			b.mend(rapid.Bool().Draw(rt, "mended"))
			var records []broker.Record
			for range rapid.IntRange(0, 8).Draw(rt, "records") {
				key := fmt.Sprint(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key"), round)
				numbers[key]++
				records = append(records, b.record(key, numbers[key], rapid.IntRange(0, 3).Draw(rt, "poison") == 0))
			}
			actions := rapid.SliceOfN(rapid.SampledFrom([]parked.Action{parked.Redrive, parked.Redrive, parked.Discard}), 0, 3).Draw(rt, "actions")
			b.atOnce(b.list(parked.Filter{}), actions, records)
		}
		b.mend(true)
		b.atOnce(b.list(parked.Filter{}), []parked.Action{parked.Redrive, parked.Redrive}, nil)
		b.deliver()
		if left := b.list(parked.Filter{}); len(left) != 0 {
			rt.Fatalf("after all was mended and redriven, %+v wait", left)
		}
		b.requireWhole(rt, numbers)
	})
}

// atOnce lets operators and the consumer work side by side.
func (b *bench) atOnce(keys []parked.Key, actions []parked.Action, records []broker.Record) {
	var all sync.WaitGroup
	for _, action := range actions {
		all.Go(func() {
			for _, k := range keys {
				if _, err := k.Do(context.Background(), b.db, action, "ada", "to see"); err != nil && fault.ClassOf(err) != fault.ClassInvalid {
					b.t.Error(err)
				}
			}
		})
	}
	b.deliver(records...)
	all.Wait()
}

func (b *bench) requireWhole(rt *rapid.T, numbers map[string]int64) {
	var given []struct {
		Key     string `db:"key"`
		Records int    `db:"records"`
	}
	must(b.t, b.db.Select(context.Background(), &given,
		`select l.key, sum(l.records)::int as records from parked_log l where l.action = 'discard' group by l.key`))
	discarded := map[string]int{}
	for _, g := range given {
		discarded[g.Key] = g.Records
	}
	for key, n := range numbers {
		got := b.effects(key)
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			rt.Fatalf("key %s: effects %v are not in order, once each", key, got)
		}
		if len(got)+discarded[key] != int(n) {
			rt.Fatalf("key %s: %d effects and %d discarded of %d records", key, len(got), discarded[key], n)
		}
	}
}

type nowhere struct{}

func (nowhere) Group(context.Context, broker.GroupConfig, func(context.Context, *broker.Assignment) error) error {
	return nil
}

func (nowhere) Fetch(context.Context, []broker.Position, time.Duration, int) (broker.Fetched, error) {
	return broker.Fetched{}, nil
}

func (nowhere) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	return nil, nil
}

func TestDo_ForgedRecordFarAhead_IsDisownedAndTheKeyGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deliver(b.record("a", 1, false), b.record("a", 1<<62, false), b.record("a", 1<<62+1, false))
	gap := b.list(parked.Filter{})[0]
	if _, err := gap.Do(t.Context(), b.db, parked.Discard, "ada", "to see"); fault.ClassOf(err) != fault.ClassInvalid {
		t.Errorf("all numbers up to 2^62 would be given up: %v; want an invalid fault", err)
	}
	n, err := gap.Do(t.Context(), b.db, parked.Disown, "ada", "forged")
	must(t, err)
	again, err := gap.Do(t.Context(), b.db, parked.Disown, "ada", "forged")
	must(t, err)
	b.deliver(b.record("a", 2, false))
	if got := b.effects("a"); n != 2 || again != 0 || !slices.Equal(got, []int64{1, 2}) || len(b.list(parked.Filter{})) != 0 {
		t.Errorf("disowned %d and then %d, effects %v; want 2, 0 and [1 2]", n, again, got)
	}
}

// The key lives longer than the log holds, and its first records are gone.
func TestDo_GapOfManyNumbers_IsSkippedOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deliver(b.record("a", 5001, false), b.record("a", 5002, false), b.record("b", 1, true))
	gap, poison := b.list(parked.Filter{Cause: inbox.Missing})[0], b.list(parked.Filter{Cause: inbox.Fault})[0]
	if _, err := gap.Plan(parked.Discard); fault.ClassOf(err) != fault.ClassInvalid || !strings.Contains(err.Error(), "--skip-missing") {
		t.Errorf("discard: %v; want an invalid fault that names the way", err)
	}
	if _, err := poison.Plan(parked.Skip); fault.ClassOf(err) != fault.ClassInvalid {
		t.Errorf("skip where no number is missing: %v; want an invalid fault", err)
	}
	plan, err := gap.Plan(parked.Skip)
	must(t, err)
	if want := "count the missing numbers 1 to 5000 (5000) as handled, and apply what waits behind them"; plan != want {
		t.Errorf("plan %q; want %q", plan, want)
	}
	for range 2 { // the second time nothing is left to do
		_, err = gap.Do(t.Context(), b.db, parked.Skip, "ada", "the log begins there")
		must(t, err)
		b.deliver()
	}
	if got := b.effects("a"); !slices.Equal(got, []int64{5001, 5002}) {
		t.Errorf("effects %v; want both that waited", got)
	}
	_, moves, err := parked.Show(t.Context(), b.db, "a", 10)
	must(t, err)
	if len(moves) != 1 || moves[0].Who != "ada" {
		t.Errorf("noted: %+v; want one move of ada", moves)
	}
}

// strict is a broker that refuses what is as large as a test's pad, until it is
// told not to.
type strict struct {
	*broker.Client
	limit int
}

func (s *strict) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	results := make([]broker.Result, len(batches))
	for i, b := range batches {
		if results[i].Err = broker.ErrRefused; b.Size() < s.limit {
			results[i] = s.Client.Produce(ctx, batches[i:i+1])[0]
		}
	}
	return results
}

func TestDo_KeyThatKafkaRefuses_IsListedShownAndReleased(t *testing.T) {
	t.Parallel()
	addr := brokertest.Start(t)
	facts := brokertest.Topic(t, addr, 1)
	client, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ",")})
	must(t, err)
	t.Cleanup(client.Close)
	db := pgtest.WithKit(t)
	out, err := outbox.New(outbox.Config{Source: source, Topics: event.Topics{"parcel": facts}})
	must(t, err)
	append := func(key string, n int64) {
		must(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			return out.Append(ctx, tx, event.Number(n, sent{ID: key, N: n})...)
		}))
	}
	long := strings.Repeat("k", 1500)
	append(long, 1)
	append(long, 2)
	append("short", 1)
	kafka := &strict{client, 1500}
	r, err := relay.New(relay.Config{DB: db, Publisher: kafka, Partitions: 1})
	must(t, err)
	must(t, r.Flush(t.Context()))

	keys, err := parked.List(t.Context(), db, parked.Filter{Cause: parked.Refused})
	must(t, err)
	if len(keys) != 1 || keys[0].Key != long || keys[0].Sequence != 1 || keys[0].Source != "" {
		t.Fatalf("refused: %+v; want the long key at #1", keys)
	}
	records, _, err := parked.Show(t.Context(), db, long, 10)
	must(t, err)
	if len(records) != 2 || records[0].Cause != parked.Refused || records[1].Cause != inbox.Follows || len(records[0].Headers) == 0 {
		t.Fatalf("shown: %+v; want the refused record and its follower", records)
	}
	kafka.limit = 1 << 20
	n, err := keys[0].Do(t.Context(), db, parked.Redrive, "ada", "the limit is raised")
	must(t, err)
	must(t, r.Flush(t.Context()))
	ranges, err := client.Offsets(t.Context(), facts)
	must(t, err)
	_, moves, err := parked.Show(t.Context(), db, long, 10)
	must(t, err)
	if n != 2 || ranges[facts][0].End != 3 || len(moves) != 1 || moves[0].Why != "the limit is raised" {
		t.Errorf("%d released, the log ends at %d, history %+v; want 2, 3 and one entry", n, ranges[facts][0].End, moves)
	}
}
