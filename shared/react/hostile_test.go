package react_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/inbox"
	"pavane/shared/react"
)

// guarded is a consumer that knows who publishes what and where.
func (r *rig) guarded(change ...func(*react.ConsumerConfig)) *react.Consumer {
	r.t.Helper()
	return r.consumer(append(change, func(c *react.ConsumerConfig) {
		c.Sources = map[string]string{topic: source}
		c.Kinds = event.Topics{"test": topic, "told": "told.events.v1"}
	})...)
}

// with sets or adds a header.
func with(rec broker.Record, key, value string) broker.Record {
	for i, h := range rec.Headers {
		if h.Key == key {
			rec.Headers[i].Value = []byte(value)
			return rec
		}
	}
	rec.Headers = append(rec.Headers, event.Header{Key: key, Value: []byte(value)})
	return rec
}

func twice(rec broker.Record, key, value string) broker.Record {
	rec.Headers = append(rec.Headers, event.Header{Key: key, Value: []byte(value)})
	return rec
}

func TestConsumer_HostileRecord_HasNoEffectSaysWhyAndBlocksNobody(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct {
		spoil  func(rec broker.Record) broker.Record
		cause  inbox.Cause
		reason string
	}{
		"no headers": {func(rec broker.Record) broker.Record { rec.Headers = nil; return rec }, inbox.Undecodable, "ce_specversion"},
		"null key":   {func(rec broker.Record) broker.Record { rec.Key = nil; return rec }, inbox.Undecodable, "not empty"},
		"null all": {func(rec broker.Record) broker.Record {
			rec.Key, rec.Value, rec.Headers = nil, nil, nil
			return rec
		}, inbox.Undecodable, "ce_specversion"},
		"tombstone":             {func(rec broker.Record) broker.Record { rec.Value = nil; return rec }, inbox.Fault, "data"},
		"no JSON":               {func(rec broker.Record) broker.Record { rec.Value = []byte("\xff\x00{"); return rec }, inbox.Fault, "data"},
		"deep JSON":             {func(rec broker.Record) broker.Record { rec.Value = bytes.Repeat([]byte("["), 100_000); return rec }, inbox.Fault, "data"},
		"other subject":         {func(rec broker.Record) broker.Record { return with(rec, "ce_subject", "good") }, inbox.Undecodable, "ce_subject"},
		"data of another key":   {func(rec broker.Record) broker.Record { rec.Value = []byte(`{"id":"good","n":1}`); return rec }, inbox.Fault, "good"},
		"forged source":         {func(rec broker.Record) broker.Record { return with(rec, "ce_source", "/payment-svc") }, inbox.Foreign, "only /test publishes"},
		"kind of another topic": {func(rec broker.Record) broker.Record { return with(rec, "ce_type", "told.it.v1") }, inbox.Foreign, "told.events.v1"},
		"source with NUL":       {func(rec broker.Record) broker.Record { return with(rec, "ce_source", "/te\x00st") }, inbox.Undecodable, "without NUL"},
		"kind with NUL":         {func(rec broker.Record) broker.Record { return with(rec, "ce_type", "te\x00st.v1") }, inbox.Undecodable, "without NUL"},
		"correlation with NUL":  {func(rec broker.Record) broker.Record { return with(rec, "ce_correlationid", "\x00") }, inbox.Undecodable, "without NUL"},
		"trace of wrong bytes":  {func(rec broker.Record) broker.Record { return with(rec, "traceparent", "\xff\xfe") }, inbox.Undecodable, "without NUL"},
		"long correlation":      {func(rec broker.Record) broker.Record { return with(rec, "ce_correlationid", long) }, inbox.Undecodable, "2000 bytes at most"},
		"long kind":             {func(rec broker.Record) broker.Record { return with(rec, "ce_type", long+".v1") }, inbox.Undecodable, "2000 bytes at most"},
		"two sources":           {func(rec broker.Record) broker.Record { return twice(rec, "ce_source", "/payment-svc") }, inbox.Undecodable, "twice"},
		"two numbers":           {func(rec broker.Record) broker.Record { return twice(rec, "ce_sequence", "2") }, inbox.Undecodable, "twice"},
		"number 0":              {func(rec broker.Record) broker.Record { return with(rec, "ce_sequence", "0") }, inbox.Undecodable, "from 1 on"},
		"number below 0":        {func(rec broker.Record) broker.Record { return with(rec, "ce_sequence", "-9223372036854775808") }, inbox.Undecodable, "from 1 on"},
		"number beyond all":     {func(rec broker.Record) broker.Record { return with(rec, "ce_sequence", "9223372036854775808") }, inbox.Undecodable, "from 1 on"},
		"largest number": {func(rec broker.Record) broker.Record {
			return with(rec, "ce_sequence", strconv.FormatInt(math.MaxInt64, 10))
		}, inbox.Missing, "number 1 of this key is missing"},
		"no version":             {func(rec broker.Record) broker.Record { return with(rec, "ce_type", "test.did") }, inbox.Undecodable, "name.vN"},
		"version beyond numbers": {func(rec broker.Record) broker.Record { return with(rec, "ce_type", "test.did.v99999999999999999999") }, inbox.Undecodable, "positive number"},
		"later version":          {func(rec broker.Record) broker.Record { return with(rec, "ce_type", "test.did.v9") }, inbox.UnknownVersion, "version 9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			consumer := r.guarded()
			r.deliver(consumer, r.record("good", 1, ""), c.spoil(r.record("bad", 1, "")), r.record("good", 2, ""))
			r.deliver(consumer, r.record("good", 3, ""))
			r.requireDense("good", 3)
			requireEqual(t, "effects of the hostile record", r.effects("bad"), []int64{})
			parked := r.parked()
			if len(parked) != 1 || parked[0].Cause != c.cause || !strings.Contains(parked[0].Reason, c.reason) || len(parked[0].Reason) > 4000 {
				t.Fatalf("parked: %+v; want one of cause %s that says %q", parked, c.cause, c.reason)
			}
			refused := map[bool]float64{true: 1}[c.cause == inbox.Undecodable || c.cause == inbox.Foreign]
			requireEqual(t, "refused records counted", r.metric("pavane_inbox_refused_total"), refused)
			g := parked[0]
			upto := g.Sequence
			if g.Cause == inbox.Missing {
				upto--
			}
			if _, err := inbox.Discard(t.Context(), r.db, inbox.ID{Source: g.Source, Key: g.Key}, upto, "test", "hostile"); err != nil {
				t.Fatalf("it cannot be given up: %v", err)
			}
			r.deliver(consumer, r.record("good", 4, ""))
			r.requireDense("good", 4)
			requireEqual(t, "parked after the discard", len(r.parked()), 0)
		})
	}
}

func TestConsumer_ForgedRecordOfAnOpenKey_TakesNoNumberOfIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.guarded()
	r.deliver(c, r.record("a", 1, ""), with(r.record("a", 2, ""), "ce_source", "/other"), with(r.record("a", 2, ""), "ce_type", "told.it.v1"))
	r.deliver(c, r.record("a", 2, ""), r.record("a", 3, ""))
	r.requireDense("a", 3)
	n, err := inbox.Redrive(t.Context(), r.db, inbox.ID{Source: topic, Key: "a"}, "test", "to see")
	if err != nil || n != 2 {
		t.Fatalf("redrive: %d, %v; want 2", n, err)
	}
	r.deliver(c)
	r.requireDense("a", 3)
	requireEqual(t, "cause after a redrive", r.parked()[0].Cause, inbox.Foreign)
}

func TestConsumer_LargestNumberManyTimes_NeverStopsOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.guarded()
	last := func() broker.Record {
		return with(r.record("a", 1, ""), "ce_sequence", strconv.FormatInt(math.MaxInt64, 10))
	}
	for range 300 { // more than one look at what is due takes on
		r.deliver(c, last())
	}
	r.deliver(c, r.record("b", 1, ""))
	if _, err := inbox.Discard(t.Context(), r.db, inbox.ID{Source: source, Key: "a"}, math.MaxInt64-1, "test", "to see"); err != nil {
		t.Fatal(err)
	}
	r.deliver(c, r.record("b", 2, ""))
	r.requireDense("b", 2)
	requireEqual(t, "parked", len(r.parked()), 0)
}

func TestConsumer_ValueThatNoColumnTakes_ParksItsKeyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	calls := 0
	c := r.guarded(func(c *react.ConsumerConfig) {
		c.MaxAttempts = 1000
		c.Reactions = []react.Reaction{react.On(func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			if e.ID == "bad" {
				calls++
			}
			if _, err := tx.ExecContext(ctx, `insert into promise (key, broken) values ($1, false)`, e.ID+e.Do+fmt.Sprint(e.N)); err != nil {
				return nil, err
			}
			return r.react(ctx, tx, did{ID: e.ID, N: e.N})
		}, told{})}
	})
	r.deliver(c, r.record("good", 1, ""), r.record("bad", 1, "a\x00b"), r.record("bad", 2, ""), r.record("good", 2, ""))
	r.requireDense("good", 2)
	requireEqual(t, "cause", r.parked()[0].Cause, inbox.Fault)
	if calls > 3 { // once for each half of the batch that holds it
		t.Errorf("the handler was called %d times", calls)
	}
}

func TestConsumer_TenThousandKinds_NoEffectAndNoMoreMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.guarded()
	r.deliver(c, r.record("good", 1, ""))
	before := r.series()
	records := make([]broker.Record, 10_000)
	for i := range records {
		records[i] = with(r.record(fmt.Sprint("k", i), 1, ""), "ce_type", fmt.Sprintf("kind%d.of.v%d", i, i+1))
	}
	r.deliver(c, records...)
	r.deliver(c, r.record("good", 2, ""))
	r.requireDense("good", 2)
	requireEqual(t, "effects", selected[int64](r, `select count(*) from effect`), []int64{2})
	requireEqual(t, "time series", r.series(), before)
	requireEqual(t, "parked", len(r.parked()), 0)
}

// series counts the time series that a scrape would bring.
func (r *rig) series() (n int) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		n += len(f.GetMetric())
	}
	return n
}

func TestConsumer_RandomRecords_AreKeptWholeAndBlockNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.guarded()
	good := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		known := r.record("x", 1, "").Headers
		var records []broker.Record
		for range rapid.IntRange(1, 6).Draw(rt, "records") {
			good++
			records = append(records, r.record("good", good, ""), r.randomRecord(rt, known))
		}
		r.deliver(c, records...)
		requireEqual(t, "last effect", selected[int64](r, `select max(n) from effect where key = 'good'`), []int64{good})
		requireEqual(t, "next offset", selected[int64](r, `select next_offset from inbox_offset`), []int64{r.offset[0]})
	})
	r.requireDense("good", good)
	requireEqual(t, "effects of others", selected[int64](r, `select count(*) from effect where key <> 'good'`), []int64{0})
}

// randomRecord draws a record that is no event of key "good", most often with
// some of the headers of one.
func (r *rig) randomRecord(rt *rapid.T, known []event.Header) broker.Record {
	raw := rapid.SliceOfN(rapid.Byte(), 0, 60)
	rec := broker.Record{Topic: topic, Offset: r.offset[0], Key: raw.Draw(rt, "key"), Value: raw.Draw(rt, "value")}
	r.offset[0]++
	if bytes.Equal(rec.Key, []byte("good")) {
		rec.Key = nil
	}
	for _, h := range known {
		switch rapid.IntRange(0, 8).Draw(rt, h.Key) {
		case 0:
		case 1:
			rec.Headers = append(rec.Headers, event.Header{Key: h.Key, Value: raw.Draw(rt, "attribute")})
		case 2:
			rec.Headers = append(rec.Headers, h, h)
		default:
			if h.Key == "ce_subject" {
				h.Value = rec.Key
			}
			rec.Headers = append(rec.Headers, h)
		}
	}
	rec.Headers = append(rec.Headers, event.Header{Key: string(raw.Draw(rt, "header")), Value: raw.Draw(rt, "header value")})
	return rec
}

func TestConsumer_PoisonKeyAmong200_OthersTakeOneTransactionABatch(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		c := r.consumer(func(c *react.ConsumerConfig) { c.BatchSize = 200 })
		r.deliver(c, r.record("key-0", 1, "permanent"))
		const batches = 12
		for n := range int64(batches) {
			records := []broker.Record{r.record("key-0", n+2, "permanent")}
			for k := range 199 {
				records = append(records, r.record(fmt.Sprint("key-", k+1), n+1, ""))
			}
			r.deliver(c, records...)
		}
		requireEqual(t, "transactions with effects", selected[int64](r, `select count(distinct e.xmin::text) from effect e`), []int64{batches})
		requireEqual(t, "effects", selected[int64](r, `select count(*) from effect`), []int64{199 * batches})
		requireEqual(t, "calls that failed", r.metric("pavane_inbox_faults_total"), 1)
		requireEqual(t, "records that wait", r.parked()[0].Records, batches+1)
	})
}
