package replay_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/fault"
	"pavane/shared/replay"
)

// leaderless has no leader for a topic when it is asked for the first time.
type leaderless struct {
	*broker.Client
	asked bool
}

func (l *leaderless) Offsets(ctx context.Context, topics ...string) (map[string][]broker.Range, error) {
	if !l.asked {
		l.asked = true
		return nil, fmt.Errorf("%s/0: %w: partition has no leader", topics[0], broker.ErrUnavailable)
	}
	return l.Client.Offsets(ctx, topics...)
}

// Such a topic may be full, and everything would be in it twice.
func TestRun_TopicHasNoLeaderForAMoment_WhatItHoldsCounts(t *testing.T) {
	b := setup(t)
	if _, err := replay.Run(t.Context(), b.cfg); err != nil {
		t.Fatal(err)
	}
	b.cfg.Kafka = &leaderless{Client: b.client}
	if n, err := replay.Run(t.Context(), b.cfg); n != 0 || fault.ClassOf(err) != fault.ClassInvalid {
		t.Errorf("published %d again, %v; want it refused", n, err)
	}
}

// A late consumer would wait at the gap without knowing why.
func TestRun_RowsGoMeanwhile_EndsWithAnError(t *testing.T) {
	b := setup(t)
	gone := false
	b.cfg.Rate = 400 // a quarter of the rows at a time
	b.cfg.Progress = func(int64, int64) {
		if gone {
			return
		}
		gone = true
		must(t, b.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, `insert into relay_parked (key, topic, since_id, chunk, reason) values ('key-3', $1, 0, 0, 'to see')`, own)
			return err
		}))
	}
	n, err := replay.Run(t.Context(), b.cfg)
	if !gone || n >= 400 || fault.ClassOf(err) != fault.ClassConflict {
		t.Errorf("%d of 400 rows, %v; want fewer, and a conflict", n, err)
	}
}
