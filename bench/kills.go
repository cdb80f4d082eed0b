package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pavane/shared/relay"
)

// killed is a drain whose process was killed on the way.
type killed struct {
	Way   string  `json:"way"`
	Rows  int     `json:"rows"`
	Kills int     `json:"kills"`
	Rate  float64 `json:"rows_per_s"`
	Log   *tally  `json:"log"`
}

// kills drains a backlog with every way while its process is killed (SIGKILL)
// and started anew, and counts what that left in the log.
func kills(ctx context.Context, r *rig) error {
	rates, doubles, missing := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, w := range r.ways() {
		k, err := r.killOne(ctx, w)
		if err != nil {
			return err
		}
		r.found.add(r.section, k)
		r.found.promise(r.section, w, fmt.Sprintf("each row once and in order through %d kill -9", k.Kills), k.Log)
		r.say("  %s: %.0f rows/s through %d kills, %s", w.name, k.Rate, k.Kills, k.Log)
		rates[w.name], doubles[w.name] = k.Rate, float64(k.Log.Duplicates)
		missing[w.name] = float64(k.Log.Missing + k.Log.Inversions)
	}
	r.found.figure(r.section, "rows/s with all starts", rates)
	r.found.figure(r.section, "duplicates", doubles)
	r.found.figure(r.section, "missing or inverted", missing)
	return nil
}

func (r *rig) killOne(ctx context.Context, w way) (k killed, err error) {
	k = killed{Way: w.name, Rows: r.rowsOf(w)}
	t, err := r.newFilled(ctx, w, k.Rows)
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	began := time.Now()
	for k.Kills = range r.kills {
		if err := t.drainUntil(ctx, k.Rows*(k.Kills+1)/(r.kills+1)); err != nil {
			return k, err
		}
	}
	k.Kills++
	c, err := t.launch()
	if err != nil {
		return k, err
	}
	defer c.kill()
	if err := t.awaitPublished(ctx, c); err != nil {
		return k, err
	}
	k.Rate = perSecond(k.Rows, time.Since(began))
	c.stop()
	k.Log, err = t.count(ctx, k.Rows)
	return k, err
}

// drainUntil runs a process until the log holds n records, and kills it.
func (t *trial) drainUntil(ctx context.Context, n int) error {
	c, err := t.launch()
	if err != nil {
		return err
	}
	defer c.kill()
	_, _, err = t.awaitLog(ctx, c, n)
	return err
}

// awaitPublished waits until nothing waits in the outbox.
func (t *trial) awaitPublished(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeoutCause(ctx, drainTime, errors.New("the outbox was not emptied"))
	defer cancel()
	tick := time.NewTicker(2 * look)
	defer tick.Stop()
	for {
		waiting, err := t.waiting(ctx)
		if err == nil && waiting == 0 {
			return nil
		}
		if gone := c.gone(); gone != nil {
			return gone
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// waiting is how many rows are not yet known to be published.
func (t *trial) waiting(ctx context.Context) (n int64, err error) {
	if t.way.poll == 0 {
		b, err := relay.LoadBacklog(ctx, t.db)
		return b.Rows, err
	}
	err = t.db.Get(ctx, &n, `select count(*) from textbook_outbox where published_at is null`)
	return n, err
}
