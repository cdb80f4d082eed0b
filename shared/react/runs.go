package react

import "pavane/shared/event"

// run is what is handled after each other without a look at anything else: the
// due events of one kind whose reaction takes many at once, or any others.
type run struct {
	kind  string // empty: reactions that take one event at a time
	batch []event.Envelope
}

// runs gathers the due events of a transaction. The events of a key keep their
// order. Those of different keys may change places, so that a reaction on many
// events finds them together though the kinds come mixed.
type runs struct {
	list []run
	last map[string]int // by key: the place of the run that holds its latest event
}

// add appends an event to the earliest run for its kind that does not lie
// before an event of the same key.
func (r *runs) add(kind string, e event.Envelope) {
	at := r.last[e.Key]
	for at < len(r.list) && r.list[at].kind != kind {
		at++
	}
	if at == len(r.list) {
		r.list = append(r.list, run{kind: kind})
	}
	r.list[at].batch = append(r.list[at].batch, e)
	r.last[e.Key] = at
}
