package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/payment-svc/internal/provider"
	"pavane/shared/retry"
)

// reconcilePage is how many changed charges are asked for at once.
const reconcilePage = 500

// Reconcile compares the provider's charges with ours every so often, until ctx
// ends. 0 means never.
func (c *Charger) Reconcile(every time.Duration) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if every == 0 {
			return nil
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if c.cfg.Provider.Room(1) == 0 {
				continue
			}
			if n, err := c.ReconcileOnce(ctx); err != nil && ctx.Err() == nil {
				c.cfg.Logger.WarnContext(ctx, "charges are not compared now", "error", err)
			} else if n > 0 {
				c.cfg.Logger.WarnContext(ctx, "the provider's charges differ from ours", "differences", n)
			}
		}
	}
}

// ReconcileOnce goes through all charges that changed at the provider since the
// last time: what was not known yet is recorded, what is held for an order that
// is off is voided, and the rest that differs is counted and logged.
func (c *Charger) ReconcileOnce(ctx context.Context) (differences int, err error) {
	var after int64
	if err := c.cfg.DB.Get(ctx, &after, cursorSQL); err != nil {
		return 0, fmt.Errorf("reconcile: read the cursor: %w", err)
	}
	for {
		page, next, err := c.cfg.Provider.Changes(ctx, after, reconcilePage)
		if err != nil {
			return differences, fmt.Errorf("reconcile: %w", err)
		}
		for _, got := range page {
			same, err := c.compare(ctx, got)
			if err != nil {
				return differences, fmt.Errorf("reconcile order %.80q: %w", got.Reference, err)
			}
			if !same {
				differences++
				c.meters.differences.Inc()
			}
		}
		if next == after {
			return differences, nil
		}
		if err := c.advance(ctx, after, next); err != nil {
			return differences, err
		}
		after = next
	}
}

// compare takes in one charge as the provider has it.
func (c *Charger) compare(ctx context.Context, got provider.Charge) (same bool, err error) {
	if got.Key != got.Reference && got.Reference != "" {
		c.cfg.Logger.ErrorContext(ctx, "the provider has a charge that is not ours", "key", retry.Text(got.Key), "reference", retry.Text(got.Reference))
		return false, nil
	}
	h, err := c.known(ctx, got)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		c.cfg.Logger.ErrorContext(ctx, "the provider has a charge that nobody here asked for", "key", retry.Text(got.Key), "provider_state", got.State)
		return false, nil
	case err != nil:
		return false, err
	case h.contradiction:
		c.cfg.Logger.ErrorContext(ctx, "the provider contradicts what is wanted of a charge", "order_id", got.Key, "provider_state", got.State)
		return false, nil
	case got.State == provider.Held && !h.news:
		return c.reopen(ctx, got.Key)
	}
	return true, nil
}

// known records the charge, unless there is none of its order.
func (c *Charger) known(ctx context.Context, got provider.Charge) (h heard, err error) {
	_, found, err := c.cfg.Service.Charge(ctx, got.Key)
	if err != nil || !found {
		return h, errors.Join(err, sql.ErrNoRows)
	}
	return c.answer(ctx, got.Key, got, func(context.Context, *sqlx.Tx, heard) error { c.Wake(); return nil })
}

// reopen has a hold voided that came after the void: at a provider that does not
// remember the void of a key it had not seen, a request that was long on its way
// can do so. The list may be older than the void, so the provider is asked once more.
func (c *Charger) reopen(ctx context.Context, orderID string) (same bool, err error) {
	ours, _, err := c.cfg.Service.Charge(ctx, orderID)
	if err != nil || want(ours.Wanted) != wantVoid || ours.due() { // as nearly all are: held for an order that is on
		return true, err
	}
	if now, err := c.cfg.Provider.Find(ctx, orderID); err != nil || now.State != provider.Held {
		return true, err
	}
	err = c.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		res, err := tx.ExecContext(ctx, reopenSQL, orderID)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		same = n == 0
		return err
	})
	c.Wake()
	return same, err
}

func (c *Charger) advance(ctx context.Context, from, to int64) error {
	return c.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, advanceSQL, from, to); err != nil {
			return fmt.Errorf("reconcile: note the cursor: %w", err)
		}
		return nil
	})
}

// chargeMeters are the charger's metrics.
type chargeMeters struct {
	calls       *prometheus.HistogramVec
	differences prometheus.Counter
}

func newChargeMeters(reg prometheus.Registerer) *chargeMeters {
	m := &chargeMeters{
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pavane_provider_call_seconds", Help: "Calls to the card provider, by what was asked and how it ended: answered, refused (surely not done) or unknown.",
			Buckets: []float64{.005, .02, .1, .5, 1, 2, 5, 10},
		}, []string{"call", "outcome"}),
		differences: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pavane_provider_differences_total", Help: "Charges found to differ between the provider and here. Each is logged.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.differences)
	}
	return m
}

func (m *chargeMeters) called(a ask, err error, took time.Duration) {
	outcome := "answered"
	switch {
	case provider.Certain(err):
		outcome = "refused"
	case err != nil:
		outcome = "unknown"
	}
	m.calls.WithLabelValues(a.String(), outcome).Observe(took.Seconds())
}
