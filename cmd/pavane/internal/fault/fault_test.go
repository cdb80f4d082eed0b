package fault

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pavane/internal/audit"
	"pavane/internal/faultproxy"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/contract"
	"pavane/shared/event"
)

const partitions = 3

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// onlyLog is a system of which there is only the log.
type onlyLog struct {
	Driver
	addr, namespace string
}

func (l onlyLog) Log() ([]string, string) { return strings.Split(l.addr, ","), l.namespace }

// noWay has no proxies.
type noWay struct{ Driver }

func (noWay) Way(string, string) (*faultproxy.Proxy, error) { return nil, context.Canceled }

// newLog is the demo's topics with three orders in the first one.
func newLog(t *testing.T) (onlyLog, *broker.Client) {
	t.Helper()
	l := onlyLog{addr: brokertest.Start(t), namespace: event.NewID()[24:] + "."}
	brokers, _ := l.Log()
	c, err := broker.Dial(broker.Config{Brokers: brokers})
	must(t, err)
	t.Cleanup(c.Close)
	var topics []broker.Topic
	for _, name := range contract.Topics() {
		topics = append(topics, broker.Topic{Name: l.namespace + name, Partitions: partitions, ReplicationFactor: 1})
	}
	must(t, c.EnsureTopics(t.Context(), topics))
	producer, err := c.InitProducer(t.Context())
	must(t, err)
	batches := map[int32]*broker.Batch{}
	for _, id := range []string{"o-1", "o-2", "o-3"} {
		data, err := json.Marshal(contract.OrderConfirmed{OrderID: id})
		must(t, err)
		for sequence := range int64(2) {
			e := event.Envelope{ID: event.NewID(), Source: "/order-svc", Kind: "order.confirmed.v1", Key: id, Sequence: sequence + 1, Time: time.Now(), CorrelationID: id, Data: data}
			rec := broker.Record{Topic: l.orders(), Key: []byte(id), Value: data, Headers: e.Headers()}
			p := broker.Partition(rec.Key, partitions)
			if batches[p] == nil {
				batches[p] = &broker.Batch{}
				batches[p].Reset(rec.Topic, p)
			}
			batches[p].Add(e.Time.UnixMilli(), rec.Key, rec.Value, event.AppendHeaders(nil, rec.Headers))
		}
	}
	_, err = produce(t.Context(), c, producer, batches)
	must(t, err)
	return l, c
}

func (l onlyLog) orders() string { return l.namespace + contract.Topics()["order"] }

// held reads all records of the orders' topic: those of the services, and the injected.
func held(t *testing.T, l onlyLog, c *broker.Client) (own, injected []event.Envelope, bad int) {
	t.Helper()
	ranges, err := c.Offsets(t.Context(), l.orders())
	must(t, err)
	for i, r := range ranges[l.orders()] {
		for at := r.First; at < r.End; {
			f, err := c.Fetch(t.Context(), []broker.Position{{Topic: l.orders(), Partition: int32(i), Offset: at}}, time.Second, 1<<20)
			must(t, err)
			for _, rec := range f.Records {
				e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
				switch {
				case err != nil:
					bad++
				case audit.Injected(rec.Headers):
					injected = append(injected, e)
				default:
					own = append(own, e)
				}
			}
			at = f.Next[0].Offset
		}
	}
	return own, injected, bad
}

func cause(t *testing.T, l onlyLog, kind string) string {
	t.Helper()
	f, err := New(Spec{Kind: kind}, l)
	must(t, err)
	did, err := f.Begin(t.Context())
	must(t, err)
	return did
}

func TestRecords_WrittenAgain_AreMarkedCopiesAndAreNotThemselvesCopied(t *testing.T) {
	t.Parallel()
	l, c := newLog(t)
	for i, kind := range []string{"duplicates", "replay", "reorder"} {
		if did := cause(t, l, kind); did != "6 records written" {
			t.Errorf("%s: %s, want 6: what was injected before breeds", kind, did)
		}
		own, injected, bad := held(t, l, c)
		if len(own) != 6 || len(injected) != 6*(i+1) || bad != 0 {
			t.Fatalf("after %s: %d records of the service, %d injected, %d undecodable", kind, len(own), len(injected), bad)
		}
	}
}

func TestReorder_EachKeysLastRecordComesFirst(t *testing.T) {
	t.Parallel()
	l, c := newLog(t)
	cause(t, l, "reorder")
	_, injected, _ := held(t, l, c)
	seen := map[string]int64{}
	for _, e := range injected {
		if last, ok := seen[e.Key]; ok && e.Sequence > last {
			t.Errorf("%s: #%d comes after #%d", e.Key, e.Sequence, last)
		}
		seen[e.Key] = e.Sequence
	}
	if len(seen) != 3 {
		t.Errorf("keys %v, want three", seen)
	}
}

func TestPoison_HasKeysOfNoOrderOnly(t *testing.T) {
	t.Parallel()
	l, c := newLog(t)
	cause(t, l, "poison")
	_, injected, bad := held(t, l, c)
	kinds := map[string]bool{}
	for _, e := range injected {
		if !strings.HasPrefix(e.Key, PoisonKey) {
			t.Errorf("poison under the key %s", e.Key)
		}
		kinds[strings.Split(e.Key, "-")[1]] = true
	}
	if bad == 0 || !kinds["data"] || !kinds["version"] || !kinds["gap"] {
		t.Errorf("kinds %v, %d undecodable; want all four", kinds, bad)
	}
}

func TestRecords_EmptyTopics_SaysThatNothingHappened(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t)
	l.namespace = "other-" + l.namespace
	f, err := New(Spec{Kind: "duplicates"}, l)
	must(t, err)
	if did, err := f.Begin(t.Context()); err == nil {
		t.Errorf("without a record: %s", did)
	}
}

func TestNew_WrongSpec_NamesWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Kind: "melt"}, "want one of kill, restart"},
		{Spec{Kind: "kill"}, "kill wants a service: one of order-svc"},
		{Spec{Kind: "kill", Service: "bank"}, `not "bank"`},
		{Spec{Kind: "kill", Service: "order-svc", Server: "broker"}, "kill is about no server"},
		{Spec{Kind: "partition", Service: "order-svc"}, "partition wants a server: one of broker, postgres"},
		{Spec{Kind: "broker", Service: "order-svc"}, "broker is about no service"},
	} {
		if _, err := New(c.spec, noWay{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.spec, err, c.want)
		}
	}
}

func TestWay_SystemWithoutProxies_SaysThatNothingHappened(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"partition", "latency", "answers"} {
		f, err := New(Spec{Kind: kind, Service: "order-svc", Server: "postgres"}, noWay{})
		must(t, err)
		if _, err := f.Begin(t.Context()); err == nil {
			t.Errorf("%s: no error", kind)
		}
	}
}

// clocked is a system of which there is only the clock.
type clocked struct {
	Driver
	at *[]time.Duration
}

func (c clocked) MoveClock(_ context.Context, by time.Duration) error {
	*c.at = append(*c.at, by)
	return nil
}

func TestClock_BySeed_JumpsForthOrBackAndIsPutRight(t *testing.T) {
	t.Parallel()
	for seed, want := range []time.Duration{jump, -jump} {
		var at []time.Duration
		f, err := New(Spec{Kind: "clock", Seed: uint64(seed)}, clocked{at: &at})
		must(t, err)
		_, err = f.Begin(t.Context())
		must(t, err)
		_, err = f.Heal(t.Context())
		must(t, err)
		if !slices.Equal(at, []time.Duration{want, 0}) {
			t.Errorf("under seed %d the clock was moved by %v, want %v and right", seed, at, want)
		}
	}
}

func TestAwaitLog_ReturnsWhenAllTopicsCanBeRead(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t)
	must(t, AwaitLog(t.Context(), l))
	l.namespace = "other-" + l.namespace
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := AwaitLog(ctx, l); err == nil || !strings.Contains(err.Error(), "does not come up") {
		t.Errorf("of topics that are not there: %v", err)
	}
}
