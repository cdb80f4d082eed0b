package react

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/inbox"
)

// backEvery is how often the log is asked whether it holds again what a stopped
// partition is due to read.
const backEvery = time.Second

// stopped are the partitions of a generation whose offset the log does not hold.
type stopped struct {
	g      *generation
	at     []broker.Position
	looked time.Time
}

// halt takes the partitions out whose offset the log does not hold. Reading on
// elsewhere would skip records, so they wait: for a relay that puts back what
// the log lost, or for an operator.
func (s *stopped) halt(ctx context.Context, at []broker.Position) []broker.Position {
	ranges, err := s.g.c.cfg.Source.Offsets(ctx, s.g.c.cfg.Topics...)
	if err != nil {
		return at
	}
	return slices.DeleteFunc(slices.Clone(at), func(p broker.Position) bool {
		why := outside(p, rangeOf(ranges, p))
		if why == nil {
			return false
		}
		s.at = append(s.at, p)
		s.report(ctx, p, why)
		return true
	})
}

// rangeOf is what the log of p holds: nothing, where the topic was made anew with
// fewer partitions.
func rangeOf(ranges map[string][]broker.Range, p broker.Position) broker.Range {
	if of := ranges[p.Topic]; int(p.Partition) < len(of) {
		return of[p.Partition]
	}
	return broker.Range{}
}

// outside says why reading cannot go on at p, or nothing.
func outside(p broker.Position, r broker.Range) error {
	switch {
	case p.Offset < r.First:
		return fmt.Errorf("%s/%d: records from %d to before %d are gone from the log but were not applied; restore them, "+
			"or accept their loss by setting next_offset in inbox_offset, then restart", p.Topic, p.Partition, p.Offset, r.First)
	case p.Offset > r.End:
		return fmt.Errorf("%s/%d: the log ends at %d, but offset %d is due: the log was cut or is another cluster's; "+
			"it goes on when the log is whole again; else connect the right cluster, or set next_offset in inbox_offset, then restart",
			p.Topic, p.Partition, r.End, p.Offset)
	}
	return nil
}

// report says why a partition is stopped, or with nil that it is not any more.
func (s *stopped) report(ctx context.Context, p broker.Position, why error) {
	name := fmt.Sprintf("%s/%d", p.Topic, p.Partition)
	s.g.report(func(st *status) {
		was := st.halted[name]
		switch {
		case why == nil:
			delete(st.halted, name)
			s.g.c.cfg.Logger.WarnContext(ctx, "partition goes on: the log is whole again", slog.String("at", p.String()))
		case was == nil || was.Error() != why.Error():
			st.halted[name] = why
			s.g.c.cfg.Logger.ErrorContext(ctx, "partition is stopped", slog.Any("error", why))
		}
		s.g.c.metrics.halted.Set(float64(len(st.halted)))
	})
}

// back returns the partitions that can be read on, now and then: the log reaches
// their offset again, and the record before it is one that this service has. A
// log that was written anew is not taken for the old one.
func (s *stopped) back(ctx context.Context) (back []broker.Position) {
	if len(s.at) == 0 || time.Since(s.looked) < backEvery {
		return nil
	}
	s.looked = time.Now()
	ranges, err := s.g.c.cfg.Source.Offsets(ctx, s.g.c.cfg.Topics...)
	if err != nil {
		return nil
	}
	s.at = slices.DeleteFunc(s.at, func(p broker.Position) bool {
		r := rangeOf(ranges, p)
		if outside(p, r) != nil {
			return false
		}
		known, err := s.known(ctx, p, r.First)
		if err != nil {
			return false
		}
		if !known {
			s.report(ctx, p, fmt.Errorf("%s/%d: the log was written anew: the event before offset %d is none that was applied here; "+
				"set next_offset in inbox_offset, then restart", p.Topic, p.Partition, p.Offset))
			return false
		}
		s.report(ctx, p, nil)
		back = append(back, p)
		return true
	})
	return back
}

// lookBack is how many offsets before a partition's are searched for an event.
// Those right before it can be records that nobody could decode, or the end of a
// transaction.
const lookBack = 100

// known tells whether the nearest event before p was applied or parked.
func (s *stopped) known(ctx context.Context, p broker.Position, first int64) (known bool, err error) {
	env, err := s.before(ctx, p, max(first, p.Offset-lookBack))
	if env == nil || err != nil {
		return false, err
	}
	err = s.g.c.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		states, err := inbox.Load(ctx, tx, []inbox.ID{{Source: env.Source, Key: env.Key}})
		if err == nil {
			known = states[0].Last >= env.Sequence || states[0].Head != 0 && states[0].Head <= env.Sequence
		}
		return err
	})
	return known, err
}

// before returns the nearest event before p from the given offset on, nil for
// none.
func (s *stopped) before(ctx context.Context, p broker.Position, from int64) (nearest *event.Envelope, err error) {
	for at := (broker.Position{Topic: p.Topic, Partition: p.Partition, Offset: from}); at.Offset < p.Offset; {
		f, err := s.g.c.cfg.Source.Fetch(ctx, []broker.Position{at}, s.g.c.cfg.MaxWait, s.g.c.cfg.MaxBytes)
		if err != nil {
			return nil, err
		}
		for _, rec := range f.Records {
			if env, err := event.Decode(rec.Key, rec.Headers, rec.Value); err == nil && rec.Offset < p.Offset {
				nearest = &env
			}
		}
		if f.Next[0].Offset <= at.Offset {
			return nil, fmt.Errorf("%s: nothing to read, though the log goes on until %d", at, p.Offset)
		}
		at = f.Next[0]
	}
	return nearest, nil
}
