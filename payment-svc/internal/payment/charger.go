package payment

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/payment-svc/internal/provider"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/postgres"
	"pavane/shared/retry"
	"pavane/shared/tracing"
)

const (
	chargeSlots   = 16                     // calls at a time
	chargePoll    = 200 * time.Millisecond // between looks for charges that nobody woke the charger for
	chargeRest    = 500 * time.Millisecond // after the database failed
	firstPutOff   = 100 * time.Millisecond // after the first failure of a charge; doubles with each
	maxPutOff     = 30 * time.Second
	claimOverhead = time.Second
)

// Provider is who holds, takes and gives back money on cards. Each charge goes by
// its order's id, so that every call may be made again.
type Provider interface {
	Authorize(ctx context.Context, in provider.Intent) (provider.Charge, error)
	Capture(ctx context.Context, key string) (provider.Charge, error)
	// Void makes sure, too, that nothing is ever held under a key that is not known yet.
	Void(ctx context.Context, key string) (provider.Charge, error)
	Find(ctx context.Context, key string) (provider.Charge, error)
	Changes(ctx context.Context, after int64, limit int) (changed []provider.Charge, next int64, err error)
	// Room is how many calls make sense now, at most limit.
	Room(limit int) int
}

// Outbox takes the events that tell of the provider's answers.
type Outbox interface {
	Append(ctx context.Context, tx *sqlx.Tx, events ...event.Numbered) error
}

// ChargerConfig says what a charger works on. All fields but Metrics and Tracer are required.
type ChargerConfig struct {
	DB       *postgres.DB
	Service  *Service
	Outbox   Outbox
	Provider Provider
	// Alone makes a transaction wait for those of the service's reactions, which
	// lock accounts, too.
	Alone   func(ctx context.Context, tx *sqlx.Tx) error
	Timeout time.Duration // of one call; a claim holds a little more than twice as long
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none
	Tracer  *tracing.Tracer       // of the calls; nil: no spans
}

// Charger asks the provider for what the saga wants of each charge, and records
// the answers. No transaction is open while it asks. Any number of chargers may
// work on one database.
type Charger struct {
	cfg    ChargerConfig
	bell   retry.Bell
	slots  chan struct{} // one for each call under way
	meters *chargeMeters
}

// NewCharger returns a charger; it works while [Charger.Run] runs.
func NewCharger(cfg ChargerConfig) *Charger {
	return &Charger{cfg: cfg, bell: retry.NewBell(), slots: make(chan struct{}, chargeSlots), meters: newChargeMeters(cfg.Metrics)}
}

// Wake makes the charger look for charges now. It never blocks.
func (c *Charger) Wake() { c.bell.Ring() }

// Run asks until ctx ends, and records the answers to the calls in hand. It
// outlives every failure of database and provider.
func (c *Charger) Run(ctx context.Context) error {
	work, stop := retry.Outlive(ctx, c.cfg.Timeout)
	defer stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	for ctx.Err() == nil {
		pause := chargePoll
		if err := c.round(ctx, work, &calls); err != nil && ctx.Err() == nil {
			c.cfg.Logger.WarnContext(ctx, "charges wait", "error", err)
			pause = chargeRest
		}
		c.bell.Wait(ctx, pause)
	}
	return nil
}

// round takes up as many charges as there is room for, and has each asked for.
func (c *Charger) round(ctx, work context.Context, calls *sync.WaitGroup) error {
	room := c.cfg.Provider.Room(cap(c.slots) - len(c.slots))
	if room == 0 {
		return nil
	}
	charges, err := claimCharges(ctx, c.cfg.DB, room, 2*c.cfg.Timeout+claimOverhead)
	if err != nil {
		return err
	}
	for _, r := range charges {
		c.slots <- struct{}{} // there is room: nobody else fills them
		calls.Go(func() {
			defer func() { <-c.slots; c.Wake() }()
			if err := c.process(work, r); err != nil && work.Err() == nil {
				c.cfg.Logger.WarnContext(work, "the charge waits", "order_id", r.OrderID, "wanted", r.Wanted, "failures", r.Failures+1, "error", err)
			}
		})
	}
	return nil
}

// process makes one call for a charge, and notes what came of it.
func (c *Charger) process(ctx context.Context, r claimed) error {
	if err := failpoint.Hit(ctx, "card.after_claim"); err != nil {
		return err
	}
	got, err := c.call(ctx, r)
	if err != nil {
		// That a question came to nothing says nothing of the request it was about.
		certain := provider.Certain(err) && r.next() != askFind
		if e := putOffCharge(context.WithoutCancel(ctx), c.cfg.DB, r, r.pause(), certain, retry.Text(err.Error())); e != nil {
			return e
		}
		return err
	}
	return c.record(ctx, r, got)
}

func (c *Charger) call(ctx context.Context, r claimed) (got provider.Charge, err error) {
	if err := failpoint.Hit(ctx, "card.before_call"); err != nil {
		return got, err
	}
	ctx, span := c.cfg.Tracer.Work(ctx, r.TraceParent, "provider "+r.next().String(), r.OrderID)
	timer, p := prometheus.NewTimer(nil), c.cfg.Provider
	switch r.next() {
	case askFind:
		got, err = p.Find(ctx, r.OrderID)
	case askAuthorize:
		got, err = p.Authorize(ctx, r.intent())
	case askCapture:
		got, err = p.Capture(ctx, r.OrderID)
	case askVoid:
		got, err = p.Void(ctx, r.OrderID)
	case askNothing: // only what is due is taken up
	}
	c.meters.called(r.next(), err, timer.ObserveDuration())
	span.End(err)
	if err != nil {
		return got, err
	}
	return got, failpoint.Hit(ctx, "card.after_call")
}

// record writes down an answer with everything that follows from it.
func (c *Charger) record(ctx context.Context, r claimed, got provider.Charge) error {
	h, err := c.answer(ctx, r.OrderID, got, func(ctx context.Context, tx *sqlx.Tx, h heard) error {
		failed, pause := 0, time.Duration(0)
		if !h.news && r.next() != askFind { // it left the charge as it was
			failed, pause = 1, r.pause()
		}
		if _, err := tx.ExecContext(ctx, answeredSQL, r.OrderID, r.Claims, h.news, failed, pause.Seconds()); err != nil {
			return err
		}
		return failpoint.Hit(ctx, "card.before_record")
	})
	if err != nil {
		return err
	}
	if h.contradiction { // asking again at once would not help
		c.cfg.Logger.ErrorContext(ctx, "the provider contradicts what is wanted of a charge; look at it there",
			"order_id", r.OrderID, "wanted", r.Wanted, "provider_state", got.State)
		c.meters.differences.Inc()
		if err := putOffCharge(ctx, c.cfg.DB, r, maxPutOff, true, "the provider says "+string(got.State)); err != nil {
			return err
		}
	}
	return failpoint.Hit(ctx, "card.after_record")
}

// answer takes in what the provider says, in a transaction that ends with last.
func (c *Charger) answer(ctx context.Context, orderID string, got provider.Charge, last func(context.Context, *sqlx.Tx, heard) error) (h heard, err error) {
	err = c.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := c.cfg.Alone(ctx, tx); err != nil {
			return err
		}
		if h, err = c.cfg.Service.answer(ctx, tx, orderID, got); err != nil {
			return err
		}
		if err := c.cfg.Outbox.Append(ctx, tx, h.events...); err != nil {
			return err
		}
		return last(ctx, tx, h)
	})
	return h, err
}
