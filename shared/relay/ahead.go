package relay

import (
	"context"
	"time"
)

// ahead reads the rows that come after a chunk while that chunk is on its way
// to Kafka. Reading promises nothing: what was read becomes a chunk only when
// it is planned, after the one before is in the log.
type ahead struct {
	of     *chunk
	cancel context.CancelFunc
	done   chan struct{} // closed when found and err are set
	found  *rowSet
	err    error
}

// readAhead begins to read what comes after the head, where that is surely
// more. It uses the reader that does not hold the head's batches, once one that
// still reads for a head of before has let go of it.
func (r *Relay) readAhead(ctx context.Context) {
	r.stopAhead()
	if r.head.last || len(r.head.progress) > 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{of: r.head, cancel: cancel, done: make(chan struct{})}
	after, reader, limit := *r.head, r.spare, r.limit
	go func() {
		defer close(a.done)
		a.found, a.err = reader.after(ctx, &after, limit)
	}()
	r.ahead = a
}

// stopAhead ends a read whose rows are not wanted.
func (r *Relay) stopAhead() {
	if r.ahead != nil {
		r.ahead.cancel()
		<-r.ahead.done
		r.ahead = nil
	}
}

// look returns the rows that come after the head. Rows that were read ahead
// are not taken when a key may have been parked since.
func (r *Relay) look(ctx context.Context) (*rowSet, error) {
	a := r.ahead
	if a == nil || a.of != r.head || len(r.head.progress) > 0 {
		r.stopAhead()
		return r.lookAgain(ctx)
	}
	defer r.stopAhead()
	<-a.done
	r.reader, r.spare = r.spare, r.reader
	return a.found, a.err
}

// lookAgain spares the look where the one before found nothing and the database
// shows the same as then.
func (r *Relay) lookAgain(ctx context.Context) (*rowSet, error) {
	if last := r.nothing; last != nil && last.of == r.head {
		now, err := r.reader.sight(ctx)
		if err != nil {
			return nil, err
		}
		if now == last.found.sight() {
			last.found.came = time.Now()
			return last.found, nil
		}
	}
	r.nothing = nil
	found, err := r.reader.after(ctx, r.head, r.limit)
	if err == nil && found.rows == 0 {
		r.nothing = &nothingFound{of: r.head, found: found}
	}
	return found, err
}

// nothingFound is a look that found no rows.
type nothingFound struct {
	of    *chunk // what they would have come after
	found *rowSet
}
