package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/contract"
	"pavane/shared/story"
)

func TestTell_EventsComeAfterTheirCauseWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	acked, offset := at.Add(20*time.Millisecond), int64(7)
	stories := map[string]story.Story{
		"inventory-svc": {
			Written: []story.Written{{Sequence: 1, Kind: "inventory.reserved.v1", ID: "b", CausationID: "a", CreatedAt: at.Add(-2 * time.Hour)}},
			Parked:  []story.Parked{{Source: "/order-svc", Sequence: 2, Kind: "order.confirmed.v1", Cause: "gap", Reason: "one is missing"}},
		},
		"order-svc": {
			Written: []story.Written{{Sequence: 1, Kind: "order.placed.v1", ID: "a", CreatedAt: at, AckedAt: &acked, Topic: "orders.events.v1", Partition: 3, Offset: &offset}},
			Applied: []story.Applied{{Source: "/inventory-svc", LastSequence: 1, AppliedAt: at.Add(time.Second)}},
		},
	}
	var out bytes.Buffer
	if err := tell(&out, "o-1", stories); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	rest := text
	for _, want := range []string{
		"order o-1, placed 20", "order.placed.v1", "20.0 ms", "orders.events.v1/3@7", "inventory.reserved.v1", "order.placed.v1", "not yet",
		"has applied /inventory-svc up to #1", "gap: one is missing",
	} {
		i := strings.Index(rest, want)
		if i < 0 {
			t.Fatalf("%q is missing, or comes too early, in:\n%s", want, text)
		}
		rest = rest[i+len(want):]
	}
}

func TestTell_EventsOlderThanTheRetention_TellsWhatIsLeftAndThatTheyAreGone(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	kept := at.Add(24 * time.Hour)
	placed := story.Story{Written: []story.Written{}, KeptSince: &kept}
	reader := story.Story{Applied: []story.Applied{{Source: "/order-svc", LastSequence: 2, AppliedAt: at}}, KeptSince: &kept}
	late := []story.Written{{Sequence: 3, Kind: "order.cancelled.v1", ID: "c", CreatedAt: kept.Add(time.Hour)}}
	for name, written := range map[string][]story.Written{"all of them": nil, "the first ones": late} {
		placed.Written = written
		var out bytes.Buffer
		if err := tell(&out, "o-1", map[string]story.Story{"order-svc": placed, "payment-svc": reader}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, want := range []string{"the first trace left is of", "before " + kept.Local().Format("2006-01-02 15:04:05") + " are gone", "has applied /order-svc up to #2"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s are gone: %q is missing in\n%s", name, want, &out)
			}
		}
		if strings.Contains(out.String(), "placed 20") {
			t.Errorf("%s are gone, and the time of another is given for that of the placing:\n%s", name, &out)
		}
	}
}

func TestTell_UnknownOrderIsAnError(t *testing.T) {
	t.Parallel()
	if err := tell(&bytes.Buffer{}, "o-1", map[string]story.Story{"order-svc": {}}); err == nil {
		t.Fatal("told a story of nothing")
	}
}

func TestPartitions_KafkaKnows_ItsNumberCountsAndAnotherFlagIsRefused(t *testing.T) {
	t.Parallel()
	to := target{kafka: strings.Split(brokertest.Start(t), ","), namespace: "partitions-of-saga-show."}
	client, err := broker.Dial(broker.Config{Brokers: to.kafka})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	topic := broker.Topic{Name: to.namespace + contract.Topics()["order"], Partitions: 12, ReplicationFactor: 1}
	if err := client.EnsureTopics(t.Context(), []broker.Topic{topic}); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []int{0, 12} {
		if n, err := to.partitions(t.Context(), flag); err != nil || n != 12 {
			t.Errorf("with the flag at %d: %d partitions, %v; want Kafka's 12", flag, n, err)
		}
	}
	if _, err := to.partitions(t.Context(), 6); err == nil || !strings.Contains(err.Error(), "--partitions 6: topic "+topic.Name+" has 12") {
		t.Errorf("with the flag at 6: %v; want that the topic has 12", err)
	}
}

func TestPartitions_NoKafkaIsKnown_TheServicesSettingCounts(t *testing.T) {
	t.Setenv("PAVANE_PARTITIONS", "12")
	var none target
	if n, err := none.partitions(t.Context(), 0); err != nil || n != 12 {
		t.Errorf("%d partitions, %v; want 12, as the services are told", n, err)
	}
	if n, err := none.partitions(t.Context(), 3); err != nil || n != 3 {
		t.Errorf("%d partitions, %v; want the flag's 3", n, err)
	}
	t.Setenv("PAVANE_PARTITIONS", "0")
	if _, err := none.partitions(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "PAVANE_PARTITIONS=0") {
		t.Errorf("%v; want that the setting is refused", err)
	}
}
