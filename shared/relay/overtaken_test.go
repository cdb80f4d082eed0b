package relay_test

import (
	"context"
	"testing"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/failpoint"
)

// away is a broker that is away when the first batches come; meanwhile something
// happens.
type away struct {
	*broker.Client
	meanwhile func()
}

func (a *away) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	f := a.meanwhile
	if f == nil {
		return a.Client.Produce(ctx, batches)
	}
	a.meanwhile = nil
	f()
	results := make([]broker.Result, len(batches))
	for i := range results {
		results[i] = broker.Result{Offset: -1, Err: broker.ErrUnavailable}
	}
	return results
}

// failOver has a standby take over that did not get what came after the first
// chunk.
func (b *bench) failOver() {
	b.t.Helper()
	b.exec(`delete from relay_journal where chunk > 1`)
	b.exec(`delete from relay_ack where chunk > 1`)
	b.exec(`delete from outbox where sequence > 1`)
	b.exec(`update counter set version = 1`)
	b.exec(`truncate relay_incarnation`)
}

// lost returns the ids of the outbox's events that are not in the log.
func (b *bench) lost() (ids []string) {
	b.t.Helper()
	in := map[string]bool{}
	for _, rec := range b.log() {
		e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
		must(b.t, err)
		in[e.ID] = true
	}
	var all []string
	must(b.t, b.db.Select(b.t.Context(), &all, `select event_id from outbox`))
	for _, id := range all {
		if !in[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// The relay of before waits for Kafka with a chunk that the standby does not know.
// Another one plans a chunk under that number, and the broker must not get the
// first one's records in its place.
func TestRelay_StandbyTakesOverWhileAChunkWaitsForKafka_RowsOfTheNextChunkOfItsNumberArePublished(t *testing.T) {
	b := setup(t)
	b.write("key", 1)
	must(t, b.relay(nil).Flush(t.Context()))
	b.write("key", 1) // the standby has not got it
	planned := false
	publisher := &away{Client: b.client, meanwhile: func() {
		b.failOver()
		b.write("key", 1)
		set, err := failpoint.Parse("relay.before_send=error")
		must(t, err)
		planned = b.relay(nil).Flush(failpoint.With(t.Context(), set)) != nil
	}}
	must(t, b.relay(publisher).Flush(t.Context()))
	if !planned {
		t.Fatal("the other relay did not die with its plan")
	}
	must(t, b.relay(nil).Flush(t.Context()))
	if ids := b.lost(); len(ids) > 0 {
		t.Errorf("events %v are not in the log and count as published", ids)
	}
	b.requireExact()
}
