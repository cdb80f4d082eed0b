package relay_test

import (
	"context"
	"testing"
	"time"

	"pavane/shared/broker"
)

// busy is a log beside which others never stop appending: with each chunk comes
// another row.
type busy struct {
	*broker.Client
	bench *bench
	sent  int
}

func (p *busy) Produce(ctx context.Context, batches []*broker.Batch) []broker.Result {
	p.sent++
	p.bench.write("others", 1)
	return p.Client.Produce(ctx, batches)
}

func TestFlush_OthersGoOnAppending_PublishesWhatWasThereAndReturns(t *testing.T) {
	b := setup(t)
	b.write("ours", 300)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	p := &busy{Client: b.client, bench: b}
	if err := b.relay(p).Flush(ctx); err != nil {
		t.Fatalf("%v after %d chunks", err, p.sent)
	}
	ours := 0
	for _, rec := range b.log() {
		if string(rec.Key) == "ours" {
			ours++
		}
	}
	if ours != 300 {
		t.Errorf("%d rows are in the log, want the 300 that were there", ours)
	}
}
