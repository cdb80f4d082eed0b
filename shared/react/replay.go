package react

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/inbox"
)

const (
	settleEvery = 5 * time.Second // when nothing is known to be due
	settleKeys  = 64              // keys in one round
	settleSteps = 256             // records in one round; then fetched ones have their turn
)

// settle applies the parked records that are due: those behind a record that
// came or was retried, those whose version this build knows, and those an operator
// let go. It returns how many keys
// had some, and sets when it is to be called again.
//
// It also looks whether the database still is where this generation left it. A
// standby that took over may lack the last commits, and a partition that is quiet
// would not show it.
func (g *generation) settle(ctx context.Context) (found int, err error) {
	var (
		stored []inbox.Offset
		due    []inbox.Parked
		keys   map[inbox.Cause]int
		next   time.Duration
	)
	err = g.insist(ctx, func() error {
		err := g.c.cfg.DB.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			if stored, err = inbox.Stored(ctx, tx, g.owned); err != nil {
				return err
			}
			if due, err = inbox.Runnable(ctx, tx, g.owned, g.c.kinds, settleKeys); err != nil {
				return err
			}
			keys, next, err = inbox.Count(ctx, tx, settleEvery)
			return err
		})
		if err != nil {
			return unavailable(err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if _, err := g.inPlace(stored, g.owned); err != nil {
		return 0, err
	}
	steps := 0
	for _, w := range due {
		for more := true; more && steps < settleSteps; steps++ {
			if more, err = g.step(ctx, w); err != nil {
				return 0, err
			}
		}
	}
	g.c.metrics.parkedBy(keys)
	if len(due) > 0 {
		next = 0 // there may be more
	} else {
		next = max(next, g.c.cfg.RetryDelay) // a due one may be another member's
	}
	g.settleAt = time.Now().Add(next)
	return len(due), nil
}

// step applies the lowest parked record of a key in a transaction of its own,
// or stores why it goes on waiting. It tells whether to try the one behind it.
func (g *generation) step(ctx context.Context, w inbox.Parked) (more bool, err error) {
	var head inbox.Parked
	err = g.insist(ctx, func() error {
		var p *pass
		around := points{"inbox.before_replay", "inbox.after_replay"}
		err := g.transact(ctx, around, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			p, head, err = g.replay(ctx, tx, w)
			return err
		})
		if err == nil && p != nil {
			more = len(p.parked) == 0
			g.committed(nil, p)
		}
		return err
	})
	if err == nil || ctx.Err() != nil {
		return more, err
	}
	v := g.c.judge(ctx, head, err)
	return false, g.insist(ctx, func() error {
		around := points{"inbox.before_hold", "inbox.after_hold"}
		err := g.transact(ctx, around, func(ctx context.Context, tx *sqlx.Tx) error {
			if _, err := g.lock(ctx, tx, []inbox.Offset{{Topic: w.Topic, Partition: w.Partition}}); err != nil {
				return err
			}
			return inbox.Hold(ctx, tx, v.Parked)
		})
		if err != nil {
			return unavailable(err)
		}
		return nil
	})
}

// replay is the transaction of a step. It returns no pass when there is nothing
// to do any more.
func (g *generation) replay(ctx context.Context, tx *sqlx.Tx, w inbox.Parked) (*pass, inbox.Parked, error) {
	locked, err := g.lock(ctx, tx, []inbox.Offset{{Topic: w.Topic, Partition: w.Partition}})
	if err != nil {
		return nil, inbox.Parked{}, err
	}
	head, ok, err := inbox.Head(ctx, tx, w.ID, w.Topic, w.Partition)
	if err != nil {
		return nil, head, unavailable(err)
	}
	if _, known := g.c.byKind[head.Kind]; ok && known && head.Cause == inbox.UnknownVersion {
		// Noted in a transaction of its own, whatever the handler then says.
		if err := inbox.Know(ctx, tx, head, fmt.Sprintf("this build of %s knows %s", g.c.cfg.Service, head.Kind)); err != nil {
			return nil, head, unavailable(err)
		}
		return g.newPass(tx, locked), head, nil
	}
	if !ok || head.Cause != inbox.Missing && head.Cause != inbox.Follows && head.Cause != inbox.Retry {
		return nil, head, nil
	}
	it := g.c.itemOf(head)
	items := []*item{&it}
	p := g.newPass(tx, locked)
	p.replaying = head.Sequence > 0 // an undecodable one has no place in its key yet
	if err := inbox.Drop(ctx, tx, head); err != nil {
		return nil, head, unavailable(err)
	}
	if err := p.load(ctx, items); err != nil {
		return nil, head, unavailable(err)
	}
	if err := p.handle(ctx, items); err != nil {
		return nil, head, err
	}
	return p, head, p.finish(ctx, nil)
}

// itemOf makes a parked record the record it was.
func (c *Consumer) itemOf(p inbox.Parked) item {
	headers, err := event.ParseHeaders(p.Headers)
	it := c.item(broker.Record{Topic: p.Topic, Partition: p.Partition, Offset: p.Offset, Key: []byte(p.Key), Value: p.Payload, Headers: headers})
	if err != nil {
		it.refuse(inbox.Undecodable, err)
	}
	return it
}
