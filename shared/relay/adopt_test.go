package relay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/relay"
)

// A dump that was restored into another cluster: numbers of transactions are ones
// that this one has yet to give out.
func TestAdopt_DatabaseRestoredElsewhere_PublishesAllThatIsRetainedOnceMore(t *testing.T) {
	for name, point := range map[string]string{"all was in the log": "", "a chunk was planned": "relay.after_plan"} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			const keys, each = 7, 100 // more than one chunk
			for i := range keys {
				b.write(fmt.Sprint("key", i), each)
			}
			must(t, b.relay(nil).Flush(t.Context()))
			if point != "" {
				set, err := failpoint.Parse(point + "=error")
				must(t, err)
				b.write("late", 1)
				if err := b.relay(nil).Flush(failpoint.With(t.Context(), set)); err == nil {
					t.Fatalf("the relay did not die at %s", point)
				}
			}
			held, rows := len(b.log()), b.rows()
			b.exec(`update relay_identity set system_identifier = 'another cluster'`)
			b.exec(`update outbox set xid = (xid::text::bigint + 1000000000)::text::xid8`)
			if err := b.relay(nil).Run(t.Context()); !errors.Is(err, relay.ErrRefuse) {
				t.Fatalf("Run on a restored database = %v, want ErrRefuse", err)
			}
			producer, err := b.client.InitProducer(t.Context())
			must(t, err)
			must(t, relay.Adopt(t.Context(), b.db, producer))
			b.write("key0", 3)
			must(t, b.relay(nil).Flush(t.Context()))
			b.write("key0", 1)
			must(t, b.relay(nil).Flush(t.Context()))
			if got := len(b.log()) - held; got != rows+4 {
				t.Errorf("%d records came, want all %d rows and 4 new ones", got, rows)
			}
			last := map[string]int64{}
			for _, rec := range b.log() {
				e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
				must(t, err)
				if e.Sequence > last[e.Key]+1 {
					t.Errorf("key %s: number %d after %d", e.Key, e.Sequence, last[e.Key])
				}
				last[e.Key] = max(last[e.Key], e.Sequence)
			}
			if backlog, err := relay.LoadBacklog(t.Context(), b.db); err != nil || backlog.Rows != 0 {
				t.Errorf("%d rows wait, %v", backlog.Rows, err)
			}
		})
	}
}

// Chunks from before an adoption are put back as they were.
func TestAdopt_BrokerComesBackEmpty_LogIsHealedAcrossIt(t *testing.T) {
	t.Parallel()
	const topic = "lost"
	server := emptyBroker(t, topic, 0)
	b := setupOn(t, server.Addr(), topic)
	publish := func() {
		b.write("a", 3)
		b.write("b", 2)
		must(t, b.relay(nil).Flush(t.Context()))
	}
	publish()
	producer, err := b.client.InitProducer(t.Context())
	must(t, err)
	must(t, relay.Adopt(t.Context(), b.db, producer))
	publish()
	publish()
	server.Close()
	emptyBroker(t, topic, portOf(t, server.Addr()))
	b.write("a", 1)
	b.start(b.relay(nil))
	b.again()
}

func TestAdopt_JournalWithoutAChunk_SaysThatNothingIsToBeDone(t *testing.T) {
	b := setup(t)
	if err := relay.Adopt(t.Context(), b.db, broker.Producer{ID: 1}); err == nil || !strings.Contains(err.Error(), "nothing to adopt") {
		t.Errorf("Adopt of an empty journal = %v", err)
	}
}

// A broker that was emptied gives its producer ids out from the start, and the
// journal's chunks go back into its log under theirs.
func TestAdopt_EmptiedBrokerGivesAnIDOutAgain_IsRefusedAndAnotherOneDoes(t *testing.T) {
	t.Parallel()
	const topic = "lost"
	server := emptyBroker(t, topic, 0)
	b := setupOn(t, server.Addr(), topic)
	b.write("a", 1)
	must(t, b.relay(nil).Flush(t.Context()))
	used := b.producer()
	server.Close()
	emptyBroker(t, topic, portOf(t, server.Addr()))
	spent := broker.Producer{ID: used}
	if err := relay.Adopt(t.Context(), b.db, spent); !errors.Is(err, relay.ErrSpent) || !strings.Contains(err.Error(), fmt.Sprint(used)) {
		t.Fatalf("Adopt under the journal's own producer %d = %v, want ErrSpent", used, err)
	}
	if now := b.producer(); now != used {
		t.Fatalf("a refused adoption moved the journal to producer %d", now)
	}
	must(t, relay.Adopt(t.Context(), b.db, broker.Producer{ID: used + 1000}))
	if err := relay.Adopt(t.Context(), b.db, spent); !errors.Is(err, relay.ErrSpent) {
		t.Errorf("Adopt under the producer before the last = %v, want ErrSpent", err)
	}
	b.write("a", 1)
	b.start(b.relay(nil))
	b.again()
}

// producer is the id under which the outbox goes on.
func (b *bench) producer() (id int64) {
	b.t.Helper()
	must(b.t, b.db.Get(b.t.Context(), &id, `select producer_id from relay_journal order by chunk desc limit 1`))
	return id
}
