package relay

import (
	"cmp"
	"context"
	"time"
)

const (
	// loaded is the number of rows in a chunk from which on the relay paces
	// itself.
	loaded = 8
	// ackWithin is how long the note that a chunk is in the log waits for a next
	// plan to carry it. Under load nearly all do, which saves every second commit.
	ackWithin = 10 * time.Millisecond
	// busyPoll bounds the pause while a writer is at work whose commit will not
	// ring.
	busyPoll = 10 * time.Millisecond
	// linger is how long a relay looks every millisecond after its last row
	// before it lies down. Lying down, getting up and the NOTIFY in between cost
	// more than some looks, and writers that come that often are spared it.
	linger     = 8 * time.Millisecond
	asleepPoll = time.Second
	idlePoll   = 100 * time.Millisecond
)

// sleeper is how a relay rests that has found nothing.
type sleeper struct {
	asleep bool      // whoever commits rows rings the bell
	busy   bool      // the bell works, but a writer is at work that will not ring
	found  time.Time // when there were rows last
}

// rest waits for the next cycle: not at all behind a full chunk, or before the
// head is looked at again, for the rest of the pace under load, else until woken
// or the idle poll is due.
func (r *Relay) rest(ctx context.Context, rows int, started time.Time) error {
	if rows > 0 {
		r.getUp(ctx)
		r.retries.idle, r.sleeper.found = 0, time.Now()
	}
	switch {
	case rows == 0 && r.head == nil: // whoever says so has waited, and nobody will ring
		return ctx.Err()
	case rows > 0 && r.head != nil && !r.head.last:
		return ctx.Err()
	case rows > loaded:
		return sleep(ctx, r.cfg.Pace-time.Since(started))
	case rows == 0 && !r.sleeper.asleep && r.lieDown(ctx):
		return ctx.Err() // to look once more: what was committed before did not ring
	}
	return r.wait(ctx)
}

// wait lasts until somebody tells of new rows or it is time for a look.
func (r *Relay) wait(ctx context.Context) error {
	look := time.NewTimer(r.pause())
	defer look.Stop()
	var ack <-chan time.Time
	if r.unacked != nil {
		timer := time.NewTimer(max(ackWithin-time.Since(r.sent), time.Millisecond))
		defer timer.Stop()
		ack = timer.C
	}
	var rung <-chan struct{}
	if r.cfg.Bell != nil {
		rung = r.cfg.Bell.Rung()
	}
	select {
	case <-r.cfg.Wake:
		r.retries.idle = 0
	case <-rung:
		r.retries.idle = 0
	case <-ack:
	case <-look.C:
		if r.sleeper.asleep && !r.cfg.Bell.Holds(ctx) {
			r.getUp(ctx)
		}
	case <-ctx.Done():
	}
	return ctx.Err()
}

// pause is the time to the next look.
func (r *Relay) pause() time.Duration {
	switch {
	case r.sleeper.asleep:
		return cmp.Or(r.cfg.IdlePoll, asleepPoll)
	case r.cfg.Bell != nil && !r.lingered():
		return r.firstIdle()
	case r.sleeper.busy:
		return r.retries.nextIdle(r.firstIdle(), busyPoll)
	}
	return r.retries.nextIdle(r.firstIdle(), min(cmp.Or(r.cfg.IdlePoll, idlePoll), idlePoll))
}

// firstIdle is the first pause at an idle outbox. One who is woken by the
// writers of its process polls only for those of others.
func (r *Relay) firstIdle() time.Duration {
	if r.cfg.Wake != nil {
		return 10 * time.Millisecond
	}
	return time.Millisecond
}

// lieDown has writers ring from now on, if they can be heard.
func (r *Relay) lieDown(ctx context.Context) bool {
	if r.cfg.Bell == nil || !r.lingered() {
		return false
	}
	asleep, err := r.cfg.Bell.Sleep(ctx) // an error means to poll on
	r.sleeper.asleep, r.sleeper.busy = asleep, err == nil && !asleep
	return asleep
}

// getUp ends what lieDown began, so that writers under load do not ring.
func (r *Relay) getUp(ctx context.Context) {
	if r.sleeper.asleep {
		_ = r.cfg.Bell.Wake(ctx) // on an error the lock is gone with its session
	}
	r.sleeper.asleep, r.sleeper.busy = false, false
}

func (r *Relay) lingered() bool { return time.Since(r.sleeper.found) >= linger }
