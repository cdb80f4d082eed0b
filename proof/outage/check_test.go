package outage_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pavane/shared/broker"
	"pavane/shared/event"
)

// place names an event: the sequence of its key.
type place struct {
	key      string
	sequence int64
}

// requireExact demands that what the writers were told holds in the outbox, that the log holds the outbox, and that the
// effects are those of the outbox: all once, and in the order of each key.
func (p *pipeline) requireExact() {
	p.t.Helper()
	rows := p.outbox()
	p.compareBooks(rows)
	compare(p.t, "log", rows, p.log())
	compare(p.t, "effects", rows, p.effects())
}

// row is an event as the outbox, the log or the effects hold it.
type row struct {
	place
	token string
}

// compare demands that found, in its order, holds every row once, and the rows of each key in order.
func compare(t *testing.T, what string, rows map[place]string, found []row) {
	t.Helper()
	last, seen := map[string]int64{}, map[place]int{}
	bad := 0
	report := func(format string, args ...any) {
		if bad++; bad <= 10 {
			t.Errorf(what+": "+format, args...)
		}
	}
	for _, r := range found {
		if seen[r.place]++; seen[r.place] > 1 {
			report("%v is there %d times", r.place, seen[r.place])
		} else if r.sequence != last[r.key]+1 {
			report("key %s: %d comes after %d", r.key, r.sequence, last[r.key])
		}
		last[r.key] = r.sequence
		if token, ok := rows[r.place]; !ok || token != r.token {
			report("%v is of transaction %s, in the outbox of %q", r.place, r.token, token)
		}
	}
	for at := range rows {
		if seen[at] == 0 {
			report("%v of transaction %s is missing", at, rows[at])
		}
	}
	if bad > 10 {
		t.Errorf("%s: %d differences in all", what, bad)
	}
}

// outbox reads all rows.
func (p *pipeline) outbox() map[place]string {
	p.t.Helper()
	var found []struct {
		Key      string
		Sequence int64
		Payload  []byte
	}
	must(p.t, p.writer.Select(p.t.Context(), &found, `select key, sequence, payload from outbox`))
	rows := make(map[place]string, len(found))
	for _, r := range found {
		at := place{r.Key, r.Sequence}
		if _, ok := rows[at]; ok {
			p.t.Errorf("outbox: %v is there twice", at)
		}
		rows[at] = tokenOf(p.t, r.Payload)
	}
	return rows
}

func tokenOf(t *testing.T, payload []byte) string {
	t.Helper()
	var f fact
	must(t, json.Unmarshal(payload, &f))
	return f.Token
}

// compareBooks demands that each transaction is in the outbox as a whole when its writer was told that it is committed,
// not at all when he was told that it failed, and one of the two when he was told neither.
func (p *pipeline) compareBooks(rows map[place]string) {
	p.t.Helper()
	count := map[string]int{}
	for _, token := range rows {
		count[token]++
	}
	p.load.mu.Lock()
	defer p.load.mu.Unlock()
	for token, w := range p.load.books {
		n, want := count[token], 0
		switch {
		case w.told == committed, w.told == unknown && n > 0:
			want = w.count
		}
		if n != want {
			p.t.Errorf("transaction %s on key %s was told %s; the outbox has %d of its %d rows", token, w.key, w.told, n, w.count)
		}
		delete(count, token)
	}
	for token := range count {
		p.t.Errorf("the outbox has rows of transaction %s, of which no writer knows", token)
	}
}

// log reads the whole topic, each partition in its order.
func (p *pipeline) log() (found []row) {
	p.t.Helper()
	ranges, err := p.client.Offsets(p.t.Context(), topic)
	must(p.t, err)
	for number, r := range ranges[topic] {
		at := broker.Position{Topic: topic, Partition: int32(number), Offset: r.First}
		for at.Offset < r.End {
			got, err := p.client.Fetch(p.t.Context(), []broker.Position{at}, time.Second, 8<<20)
			must(p.t, err)
			for _, rec := range got.Records {
				e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
				must(p.t, err)
				found = append(found, row{place{e.Key, e.Sequence}, tokenOf(p.t, e.Data)})
			}
			at = got.Next[0]
		}
	}
	return found
}

func (p *pipeline) effects() []row {
	p.t.Helper()
	var found []struct {
		Key, Token string
		Sequence   int64
	}
	must(p.t, p.reader.Select(p.t.Context(), &found, `select key, sequence, token from effect order by n`))
	rows := make([]row, len(found))
	for i, r := range found {
		rows[i] = row{place{r.Key, r.Sequence}, r.Token}
	}
	return rows
}

// say prints one line for a round.
func say(t *testing.T, n int, format string, args ...any) {
	t.Helper()
	fmt.Printf("%s round %d: %s\n", t.Name(), n, fmt.Sprintf(format, args...))
}
