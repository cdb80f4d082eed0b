// Package parked is the operator's side of all that waits in one service's
// database: keys whose records its consumer parked, and keys whose records
// Kafka refuses to take from its relay.
//
// What an operator does is one transaction a key: it is done whole or not at
// all, twice is harmless, and who did it and why stays in the database.
package parked

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// Refused is the cause of a key whose record Kafka does not take.
const Refused inbox.Cause = "refused"

// Key is a key that waits, told by the record that holds it up.
type Key struct {
	Source   string      `json:"source"` // who published its records; empty: this service itself, and Kafka refuses them
	Key      string      `json:"key"`
	Cause    inbox.Cause `json:"cause"`
	Sequence int64       `json:"sequence"` // 0: it is no event that belongs here
	Kind     string      `json:"kind"`
	Topic    string      `json:"topic"`
	Reason   string      `json:"reason"`
	Attempts int         `json:"attempts"`
	Since    time.Time   `json:"since"`
	Records  int         `json:"records"`      // how many wait; 0: not counted
	Last     int64       `json:"last_applied"` // the last number of the key that has had its effect here
}

// Causes lists why a key can wait for an operator.
func Causes() []inbox.Cause {
	return []inbox.Cause{inbox.Fault, inbox.Missing, inbox.Undecodable, inbox.Foreign, inbox.UnknownVersion, inbox.Retry, inbox.Follows, Refused}
}

// Filter chooses keys. Empty fields choose all.
type Filter struct {
	Cause  inbox.Cause
	Key    *string // may be an empty one, of what is no event
	Source string
}

func (f Filter) fits(k Key) bool {
	return (f.Cause == "" || f.Cause == k.Cause) && (f.Key == nil || *f.Key == k.Key) && (f.Source == "" || f.Source == k.Source)
}

// Each goes through the keys that wait, however many they are, those that Kafka
// refuses last. What begins or ceases to wait meanwhile may be met or not. An error
// is the last that it yields.
func Each(ctx context.Context, db *postgres.DB, f Filter) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		_ = choose(inbox.Each(ctx, db), consumed, f, yield) && choose(relay.EachRefused(ctx, db), published, f, yield)
	}
}

// choose yields those of found that fit, and tells whether to go on.
func choose[T any](found iter.Seq2[T, error], key func(T) Key, f Filter, yield func(Key, error) bool) bool {
	for t, err := range found {
		if err != nil {
			yield(Key{}, err)
			return false
		}
		if k := key(t); f.fits(k) && !yield(k, nil) {
			return false
		}
	}
	return true
}

// List returns the keys that wait, those of a cause together, the longest first.
func List(ctx context.Context, db *postgres.DB, f Filter) ([]Key, error) {
	var keys []Key
	for k, err := range Each(ctx, db, f) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	slices.SortStableFunc(keys, func(a, b Key) int { return cmp.Or(inOrder(a.Cause, b.Cause), a.Since.Compare(b.Since)) })
	return keys, nil
}

func inOrder(a, b inbox.Cause) int { return slices.Index(Causes(), a) - slices.Index(Causes(), b) }

// consumed is a key whose records the consumer parked.
func consumed(g inbox.Group) Key {
	return Key{
		Source: g.Source, Key: g.Key, Cause: g.Cause, Sequence: g.Sequence, Kind: g.Kind, Topic: g.Topic,
		Reason: g.Reason, Attempts: g.Attempts, Since: g.Since, Records: g.Records, Last: g.Last,
	}
}

// published is a key that Kafka refuses.
func published(r relay.Refused) Key {
	return Key{
		Key: r.Key, Cause: Refused, Sequence: r.Sequence, Kind: r.Kind, Topic: r.Topic,
		Reason: fmt.Sprintf("%s (%d bytes)", r.Reason, r.Bytes), Since: r.Since,
	}
}

// all makes keys of what they are found as.
func all[T any](found []T, key func(T) Key) []Key {
	keys := make([]Key, len(found))
	for i, f := range found {
		keys[i] = key(f)
	}
	return keys
}

// Group is what waits for one cause.
type Group struct {
	Cause  inbox.Cause `json:"cause"`
	Count  int         `json:"count" doc:"of all its keys"`
	Oldest time.Time   `json:"oldest"`
	Keys   []Key       `json:"keys" nullable:"false" doc:"the first of them, the longest waiting first"`
}

// ByCause returns what waits, with at most limit keys of each cause. All are
// counted, and only those are read.
func ByCause(ctx context.Context, db *postgres.DB, limit int) ([]Group, error) {
	groups := []Group{}
	waiting, err := inbox.ListByCause(ctx, db, limit)
	if err != nil {
		return nil, err
	}
	for _, w := range waiting {
		groups = append(groups, Group{Cause: w.Cause, Count: w.Count, Oldest: w.Oldest, Keys: all(w.Keys, consumed)})
	}
	slices.SortFunc(groups, func(a, b Group) int { return inOrder(a.Cause, b.Cause) })
	refused, err := relay.ListRefused(ctx, db, limit)
	if err != nil || len(refused) == 0 {
		return groups, err
	}
	n, err := relay.CountRefused(ctx, db)
	n = max(n, len(refused)) // some may have been let go since
	return append(groups, Group{Cause: Refused, Count: n, Oldest: refused[0].Since, Keys: all(refused, published)}), err
}

// Action is what an operator does with a key.
type Action string

// The actions.
const (
	Redrive Action = "redrive" // try it again
	Discard Action = "discard" // give up the record that holds it up, and let the others go
	Disown  Action = "disown"  // delete the records behind a gap, because they are forged
	Skip    Action = "skip"    // count what is missing in a gap as handled, however much it is
)

// farAhead is the size of a gap from which on its record is taken for a forged
// one rather than for one that overtook so many, unless [Skip] says else.
const farAhead = 1000

// Plan says what an action would do to the key, as one sentence without its
// end, or as an error why it cannot help.
func (k Key) Plan(a Action) (string, error) {
	switch {
	case a != Redrive && a != Discard && a != Disown && a != Skip:
		return "", fault.Invalid("action %q: choose %s, %s, %s or %s", a, Redrive, Discard, Disown, Skip)
	case (a == Disown || a == Skip) && k.Cause != inbox.Missing:
		return "", fault.Invalid("key %q does not wait behind a gap: discard gives up the record that holds it up", k.Key)
	case a == Disown:
		return fmt.Sprintf("delete what waits from #%d on, and go on with #%d", k.Sequence, k.Last+1), nil
	case a == Discard && k.Cause == inbox.Missing && k.Sequence-k.Last > farAhead:
		return "", fault.Invalid("key %q: before #%d everything from #%d on is missing, so the record looks forged: discard --forged deletes it, discard --skip-missing counts what is missing as handled", k.Key, k.Sequence, k.Last+1)
	case a == Redrive && k.Cause == inbox.Missing:
		return "", fault.Invalid("key %q waits for its number %d: it goes on by itself when that comes, or when what is missing is discarded", k.Key, k.Last+1)
	case k.Cause == inbox.Follows:
		return "", fault.Invalid("key %q goes on by itself: it was let go already", k.Key)
	case a == Redrive && k.Cause == Refused:
		return "publish the records that were held back", nil
	case a == Redrive:
		return "apply its records again, in order", nil
	case k.Cause == Refused:
		return fmt.Sprintf("publish a %s in the place of #%d %s, and what was held back behind it", relay.DiscardedKind, k.Sequence, k.Kind), nil
	case k.Cause == inbox.Missing:
		return fmt.Sprintf("count the missing numbers %d to %d (%d) as handled, and apply what waits behind them", k.Last+1, k.Sequence-1, k.Sequence-1-k.Last), nil
	case k.Sequence == 0:
		return "delete its records that are no events or do not belong here", nil
	}
	return fmt.Sprintf("count #%d %s as handled without its effect, and apply what waits behind it", k.Sequence, k.Kind), nil
}

// Do does it, in one transaction, and returns how many records it moved: 0 when
// somebody else has done it meanwhile.
func (k Key) Do(ctx context.Context, db *postgres.DB, a Action, who, why string) (int, error) {
	if _, err := k.Plan(a); err != nil {
		return 0, err
	}
	id := inbox.ID{Source: k.Source, Key: k.Key}
	switch {
	case k.Cause == Refused && a == Redrive:
		return relay.Release(ctx, db, k.Key, who, why)
	case k.Cause == Refused:
		return relay.Discard(ctx, db, k.Key, who, why)
	case a == Redrive:
		return inbox.Redrive(ctx, db, id, who, why)
	case a == Disown:
		return inbox.Disown(ctx, db, id, who, why)
	}
	upto := k.Sequence
	if k.Cause == inbox.Missing {
		upto--
	}
	n, err := inbox.Discard(ctx, db, id, upto, who, why)
	if class := fault.ClassOf(err); class == fault.ClassNotFound || class == fault.ClassInvalid {
		return 0, nil // it went on meanwhile
	}
	return n, err
}
