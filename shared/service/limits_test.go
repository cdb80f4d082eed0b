package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/pgtest"
	"pavane/shared/react"
)

func TestOpen_MaxConns_BoundsThePoolOfTheService(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), deaf(t))
	cfg.MaxConns = 3
	s, err := Open(t.Context(), cfg, spec())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if n := s.DB().SQL().Stats().MaxOpenConnections; n != 3 {
		t.Errorf("the pool has %d connections, 3 were configured", n)
	}
}

// running is a service of this test that runs until stop.
func running(t *testing.T, cfg Config, spec Spec, reactions ...react.Reaction) (s *Service, stop func()) {
	t.Helper()
	s, err := Open(t.Context(), cfg, spec)
	if err != nil {
		t.Fatal(err)
	}
	s.React(reactions...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "ready", func() bool { code, _ := status(cfg.HTTPAddr, "/readyz"); return code == http.StatusOK })
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func (s *Service) send(t *testing.T, id string) {
	t.Helper()
	err := s.DB().InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		return s.Outbox().Append(ctx, tx, event.Number(1, ping{id})...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *Service) count(t *testing.T, query string) (n int) {
	t.Helper()
	if err := s.DB().Get(t.Context(), &n, query); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRun_Retention_JournalIsKeptForItAndNoLonger(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), brokertest.Start(t))
	cfg.Retention = 72 * time.Hour
	s, stop := running(t, cfg, spec())
	for i := range 3 {
		s.send(t, fmt.Sprint("p-", i))
		eventually(t, "acknowledged", func() bool { return s.count(t, `select count(*) from relay_ack`) == i+1 })
	}
	// All at once, for maintenance may come at any time. The newest chunk stays in any case.
	if _, err := s.DB().SQL().ExecContext(t.Context(), `update relay_ack a set acked_at = clock_timestamp() - make_interval(hours => o.age)
from (select chunk, (array[73, 71, 0])[row_number() over (order by chunk)] as age from relay_ack) o where o.chunk = a.chunk`); err != nil {
		t.Fatal(err)
	}
	stop()

	s, stop = running(t, cfg, spec()) // maintenance is taken at the start
	defer stop()
	eventually(t, "the journal is trimmed", func() bool { return s.count(t, `select count(*) from relay_ack`) < 3 })
	if n := s.count(t, `select count(*) from relay_ack where acked_at < clock_timestamp() - interval '70 hours'`); n != 1 {
		t.Errorf("%d chunks of 71 hours ago, want the one", n)
	}
}

func TestRun_ConsumerTuned_ParksAfterAsManyAttempts(t *testing.T) {
	t.Parallel()
	cfg := configured(t, pgtest.URL(t), brokertest.Start(t))
	tuned := spec()
	tuned.Consumer = func(c *react.ConsumerConfig) { c.MaxAttempts, c.RetryDelay = 2, time.Millisecond }
	s, stop := running(t, cfg, tuned, react.Origin("a test", ping{}), react.On(func(context.Context, *sqlx.Tx, ping) ([]event.Numbered, error) {
		return nil, errors.New("it does not work")
	}))
	defer stop()
	s.send(t, "p-1")
	eventually(t, "parked", func() bool { return s.count(t, `select count(*) from parked where cause = 'fault'`) == 1 })
	if n := s.count(t, `select attempts from parked`); n != 2 {
		t.Errorf("parked after %d attempts, want 2", n)
	}
}

func TestRun_ConsumerTunedBeyondItsRange_IsRefused(t *testing.T) {
	t.Parallel()
	tuned := spec()
	tuned.Consumer = func(c *react.ConsumerConfig) { c.MaxAttempts = -1 }
	s, err := Open(t.Context(), configured(t, pgtest.URL(t), deaf(t)), tuned)
	if err != nil {
		t.Fatal(err)
	}
	s.React(react.Origin("a test", ping{}), react.On(func(context.Context, *sqlx.Tx, ping) ([]event.Numbered, error) { return nil, nil }))
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "below its least value") {
		t.Errorf("Run returned %v", err)
	}
}
