// Package react owns reactions: a handler bound to the kind it reads and the
// kinds it may emit, and the consumer that runs them. For each batch of records
// it does dedupe, handlers, outbox and offsets in one transaction.
package react

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/tracing"
)

// Handler changes the service's own database in tx and returns the events that
// tell of the change. It cannot publish by itself. A business refusal is an
// event; a plain error is retried; a permanent fault parks the key. Which event is
// handled, [event.CauseOf] tells a handler that has the effect told later.
type Handler[E event.Event] func(ctx context.Context, tx *sqlx.Tx, e E) ([]event.Numbered, error)

// BatchHandler is a [Handler] over many events at once, so that it can write
// them in one statement. The events of a key follow each other in order; keys
// are sorted, as far as that allows. What it returns at a place tells of the
// event at that place; nil is for nothing at all. An error undoes all of it:
// the kit then calls it with fewer events, in the end with one, until the one
// at fault stands alone.
type BatchHandler[E event.Event] func(ctx context.Context, tx *sqlx.Tx, batch []E) ([][]event.Numbered, error)

// Reaction is one row of a service's table of reactions.
type Reaction struct {
	// Kind is what it reads; empty for an [Origin].
	Kind string
	// Origin tells what starts it when no event does.
	Origin string
	// Emits are zero values of all events it may return.
	Emits []event.Event

	handle func(ctx context.Context, tx *sqlx.Tx, batch []event.Envelope) ([][]event.Numbered, error)
	many   bool // handles a batch as a whole
}

// On binds a handler to the event type of its argument and to every event it
// may emit. The kit refuses an event that is not declared here.
func On[E event.Event](h Handler[E], emits ...event.Event) Reaction {
	var zero E
	return Reaction{Kind: zero.Kind(), Emits: emits, handle: func(ctx context.Context, tx *sqlx.Tx, batch []event.Envelope) ([][]event.Numbered, error) {
		told := make([][]event.Numbered, len(batch))
		for i := range batch {
			e, err := decode[E](&batch[i])
			if err != nil {
				return nil, err
			}
			if told[i], err = h(event.WithCause(tracing.WithParent(ctx, batch[i].TraceParent), &batch[i]), tx, e); err != nil {
				return nil, err
			}
		}
		return told, nil
	}}
}

// OnBatch is [On] for a handler over many events at once. It keeps the same
// promises; a service may have both, for different kinds.
func OnBatch[E event.Event](h BatchHandler[E], emits ...event.Event) Reaction {
	var zero E
	return Reaction{Kind: zero.Kind(), Emits: emits, many: true, handle: func(ctx context.Context, tx *sqlx.Tx, batch []event.Envelope) ([][]event.Numbered, error) {
		events := make([]E, len(batch))
		for i := range batch {
			var err error
			if events[i], err = decode[E](&batch[i]); err != nil {
				return nil, err
			}
		}
		told, err := h(ctx, tx, events)
		if err == nil && told != nil && len(told) != len(batch) {
			return nil, fault.Permanent("the reaction on %s told of %d events, it was given %d", zero.Kind(), len(told), len(batch))
		}
		return told, err
	}}
}

func decode[E event.Event](env *event.Envelope) (e E, err error) {
	if err := json.Unmarshal(env.Data, &e); err != nil {
		return e, fault.Permanent("%s: data: %w", env.Kind, err)
	}
	if e.Key() != env.Key {
		return e, fault.Permanent("%s: data names %q, the record's key is %q", env.Kind, e.Key(), env.Key)
	}
	return e, nil
}

// Origin declares events that a request or a timer of the service appends, so
// that the catalogue is whole. What says in words what starts them.
func Origin(what string, emits ...event.Event) Reaction {
	return Reaction{Origin: what, Emits: emits}
}

// Handle runs the handler on events of its kind, checks that it emits only what
// was declared and names the cause of each event it emits. The consumer calls
// it; tests of a service may, too.
func (r Reaction) Handle(ctx context.Context, tx *sqlx.Tx, batch ...event.Envelope) ([]event.Numbered, error) {
	told, err := r.handle(ctx, tx, batch)
	if err != nil {
		return nil, err
	}
	var events []event.Numbered
	for i, of := range told {
		for _, out := range of {
			kind := out.Event.Kind()
			if !slices.ContainsFunc(r.Emits, func(d event.Event) bool { return d.Kind() == kind }) {
				return nil, fault.Permanent("the reaction on %s emitted %s, which it does not declare; add it to react.On", r.Kind, kind)
			}
			out.Cause = &batch[i]
			events = append(events, out)
		}
	}
	return events, nil
}

// Validate checks a service's table: kinds well formed, none handled twice, and
// every one routed by topics.
func Validate(reactions []Reaction, topics event.Topics) error {
	seen := map[string]bool{}
	for _, r := range reactions {
		kinds := make([]string, 0, len(r.Emits)+1)
		for _, e := range r.Emits {
			kinds = append(kinds, e.Kind())
		}
		if r.Kind != "" {
			kinds = append(kinds, r.Kind)
			if seen[r.Kind] {
				return fmt.Errorf("two reactions on %s; a service has one", r.Kind)
			}
			seen[r.Kind] = true
		}
		for _, kind := range kinds {
			if _, _, err := event.SplitKind(kind); err != nil {
				return err
			}
			if _, err := topics.Of(kind); err != nil {
				return err
			}
		}
	}
	return nil
}
