package react

import (
	"context"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/inbox"
)

// Deliver handles records as one fetch of [Consumer.Run] does, without a broker
// and without a group: for tests of reactions. Parked records that are due are
// applied, too. The records are of the configured topics and partitions; those
// of one partition lie together, in the order of their offsets, and those below
// the stored offset are dropped, as always.
func (c *Consumer) Deliver(ctx context.Context, records ...broker.Record) error {
	g := &generation{c: c, next: map[partition]int64{}}
	for _, topic := range c.cfg.Topics {
		for n := range c.cfg.Partitions {
			g.owned = append(g.owned, inbox.Offset{Topic: topic, Partition: int32(n)})
		}
	}
	err := c.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, _, err := inbox.Begin(ctx, tx, g.owned)
		return err
	})
	if err != nil {
		return err
	}
	for _, u := range c.cut(broker.Fetched{Records: records}, nil) {
		if err := g.apply(ctx, u); err != nil {
			return err
		}
	}
	for due := 1; due > 0 && err == nil; {
		due, err = g.settle(ctx)
	}
	return err
}
