package story_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/humatest"
	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
	"pavane/shared/relay"
	"pavane/shared/story"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	partitions = 3
	wait       = 20 * time.Second
)

type told struct {
	ID string `json:"id"`
	N  int64  `json:"n"`
}

func (told) Kind() string  { return "told.it.v1" }
func (e told) Key() string { return e.ID }

type scene struct {
	t     *testing.T
	db    *postgres.DB
	out   *outbox.Outbox
	topic string
	kafka *broker.Client
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, db: pgtest.WithKit(t)}
	addr := brokertest.Start(t)
	s.topic = brokertest.Topic(t, addr, partitions)
	var err error
	if s.kafka, err = broker.Dial(broker.Config{Brokers: strings.Split(addr, ","), Topics: []string{s.topic}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kafka.Close)
	if s.out, err = outbox.New(outbox.Config{Source: "/scene", Topics: event.Topics{"told": s.topic}}); err != nil {
		t.Fatal(err)
	}
	return s
}

// tell appends event n of each key, each in a transaction of its own.
func (s *scene) tell(n int64, keys ...string) {
	s.t.Helper()
	for _, key := range keys {
		s.in(func(ctx context.Context, tx *sqlx.Tx) error {
			return s.out.Append(ctx, tx, event.Number(n, told{ID: key, N: n})...)
		})
	}
}

func (s *scene) in(f func(ctx context.Context, tx *sqlx.Tx) error) {
	s.t.Helper()
	if err := s.db.InTx(s.t.Context(), f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) relay() {
	s.t.Helper()
	r, err := relay.New(relay.Config{DB: s.db, Publisher: s.kafka, Partitions: partitions, ChunkRows: 7})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("relay: %v", err)
		}
	})
}

func (s *scene) load(key string) story.Story {
	s.t.Helper()
	st, err := story.Load(s.t.Context(), s.db, key, partitions)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// log returns where each event lies: "topic/partition@offset" by event id.
func (s *scene) log(records int) map[string]string {
	s.t.Helper()
	at := make([]broker.Position, partitions)
	for i := range at {
		at[i] = broker.Position{Topic: s.topic, Partition: int32(i)}
	}
	places := map[string]string{}
	await.True(s.t, wait, fmt.Sprintf("%d records in the log", records), func() bool {
		f, err := s.kafka.Fetch(s.t.Context(), at, 100*time.Millisecond, 1<<20)
		if err != nil {
			return false
		}
		at = f.Next
		for _, rec := range f.Records {
			env, err := event.Decode(rec.Key, rec.Headers, rec.Value)
			if err != nil {
				s.t.Fatal(err)
			}
			places[env.ID] = broker.Position{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset}.String()
		}
		return len(places) >= records
	})
	return places
}

func TestLoad_AgreesWithTheLog(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	keys := make([]string, 20)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%d", i)
	}
	s.tell(1, keys...)
	s.relay()
	s.log(20)
	s.in(func(ctx context.Context, tx *sqlx.Tx) error {
		// A transaction that commits after others that began later.
		if err := s.out.Append(ctx, tx, event.Number(1, told{ID: "late", N: 1})...); err != nil {
			return err
		}
		for n := int64(2); n < 5; n++ {
			s.tell(n, keys...)
		}
		s.log(80)
		return nil
	})
	s.tell(5, keys...)
	places := s.log(101)
	for _, key := range append(keys, "late") {
		await.True(t, wait, "acknowledged in the journal", func() bool {
			w := s.load(key).Written
			return w[len(w)-1].AckedAt != nil
		})
		for _, w := range s.load(key).Written {
			if w.Offset == nil || w.PlannedAt == nil || w.AckedAt == nil {
				t.Fatalf("%s #%d: %+v: want its way to the log", key, w.Sequence, w)
			}
			got := broker.Position{Topic: w.Topic, Partition: w.Partition, Offset: *w.Offset}.String()
			if got != places[w.ID] {
				t.Fatalf("%s #%d: the story says %s, the log %s", key, w.Sequence, got, places[w.ID])
			}
			if w.PlannedAt.Before(w.CreatedAt) || w.AckedAt.Before(*w.PlannedAt) {
				t.Fatalf("%s #%d: created %s, planned %s, acknowledged %s: out of order", key, w.Sequence, w.CreatedAt, w.PlannedAt, w.AckedAt)
			}
		}
	}
}

func TestLoad_BeforeTheRelayCame_HasNoPlace(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.tell(1, "a")
	w := s.load("a").Written
	if len(w) != 1 || w[0].PlannedAt != nil || w[0].Offset != nil || w[0].CorrelationID != "a" || string(w[0].Data) != `{"id":"a","n":1}` {
		t.Fatalf("written: %+v; want one event without a place", w)
	}
}

func TestRoute_TellsAllPartsAndAnUnknownKeyIsEmpty(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.tell(1, "a")
	s.in(func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `insert into inbox (source, key, last_seq) values ('/other', 'a', 3)`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `insert into parked (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause)
values ('/other', 'a', 5, 'others', 1, 7, 'other.did.v1', '', '', 'number 4 is missing', 'gap')`)
		return err
	})
	_, api := humatest.New(t)
	story.Register(api, s.db, partitions)
	var got story.Story
	res := api.Get("/v1/story/a")
	if err := json.Unmarshal(res.Body.Bytes(), &got); err != nil || res.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", res.Code, res.Body, err)
	}
	if len(got.Written) != 1 || len(got.Applied) != 1 || got.Applied[0].LastSequence != 3 || len(got.Parked) != 1 || got.Parked[0].Cause != "gap" {
		t.Fatalf("story: %+v; want one of each", got)
	}
	if strings.Contains(res.Body.String(), "kept_since") {
		t.Errorf("%s: want no time from which on events are kept while none was dropped", res.Body)
	}
	res = api.Get("/v1/story/nobody")
	if body := res.Body.String(); res.Code != http.StatusOK || !strings.Contains(body, `"written":[]`) || !strings.Contains(body, `"parked":[]`) {
		t.Fatalf("%d %s: want an empty story", res.Code, body)
	}
}

func TestLoad_OutboxHasDroppedRows_SaysSinceWhenTheyAreKept(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	since := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	s.in(func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into outbox_reach (since) values ($1)`, since)
		return err
	})
	if got := s.load("a").KeptSince; got == nil || !got.Equal(since) {
		t.Errorf("events are kept since %v, want %s", got, since)
	}
}
