package answers_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/faultproxy"
	"pavane/internal/transcript"
	"pavane/migrations"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/inbox"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// patience bounds the waiting for a strike, and for the lane to catch up after it.
const patience = 90 * time.Second

// lane is a service with a schema, topics and proxies of its own.
type lane struct {
	*testing.T
	address
	kafka, postgres *faultproxy.Proxy
	db              *postgres.DB       // past the proxy
	log             *broker.Client     // past the proxy
	said            *transcript.Buffer // what its parts have logged, for the case that something goes wrong

	writer *writer
	idle   func() error
	relays int
	stop   func()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLane(t *testing.T, number int) *lane {
	t.Helper()
	addr := brokertest.Start(t)
	first, _, _ := strings.Cut(addr, ",")
	direct := pgtest.URL(t)
	u, err := url.Parse(direct)
	must(t, err)
	l := &lane{T: t, db: pgtest.Open(t, direct), said: &transcript.Buffer{}, relays: 1}
	if number%4 == 3 {
		l.relays = 2 // one goes on where the other waits, so not everywhere
	}
	l.kafka, l.postgres = startProxy(t, faultproxy.Kafka, first), startProxy(t, faultproxy.Postgres, u.Host)
	u.Host = l.postgres.Addr()
	l.address = address{
		database: u.String(), broker: l.kafka.Addr(),
		facts: brokertest.Topic(t, addr, partitions), echoes: brokertest.Topic(t, addr, partitions),
	}
	l.group = "g-" + l.facts
	l.log, err = broker.Dial(broker.Config{Brokers: strings.Split(addr, ",")})
	must(t, err)
	t.Cleanup(l.log.Close)
	pgtest.Migrate(t, l.db, migrations.Kit())
	l.prepare()
	t.Cleanup(l.tell)
	return l
}

func startProxy(t *testing.T, protocol faultproxy.Protocol, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(faultproxy.Config{Protocol: protocol, Target: target})
	must(t, err)
	t.Cleanup(p.Close)
	return p
}

// tell shows what the parts of a failed lane have logged last.
func (l *lane) tell() {
	if !l.Failed() {
		return
	}
	text := l.said.String()
	l.Logf("the lane's log ends with:\n%s", text[max(0, len(text)-6000):])
}

// prepare makes the tables and the writer, before anything can go wrong.
func (l *lane) prepare() {
	l.Helper()
	for _, statement := range []string{
		`create table unit (id bigint primary key)`,
		`create table counter (key text primary key, version bigint not null)`,
		`create table effect (place bigint generated always as identity, key text not null, n bigint not null)`,
		`create table total (key text primary key, n bigint not null)`,
	} {
		l.exec(statement)
	}
	l.exec(`insert into counter select 'key-' || n, 0 from generate_series(0, $1::int - 1) n`, writerKeys)
	db, err := l.pool(2)
	must(l.T, err)
	l.Cleanup(func() { _ = db.Close() })
	out, err := l.outbox()
	must(l.T, err)
	l.writer = &writer{address: l.address, db: db, out: out}
}

func (l *lane) exec(statement string, args ...any) {
	l.Helper()
	must(l.T, l.db.InTx(l.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}))
}

// work has the writer write; idle then ends it after the unit it is at.
func (l *lane) work(seed uint64) {
	ctx, cancel := context.WithCancel(l.Context())
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = l.writer.write(ctx, rand.New(rand.NewPCG(seed, 1)))
	}()
	l.idle = func() error { cancel(); <-ended; return err }
	l.Cleanup(func() { _ = l.idle() })
}

// start starts the service; stop then stops it as a process ends on SIGTERM.
func (l *lane) start() {
	ctx, cancel := context.WithCancel(l.Context())
	s := service{
		address: l.address, relays: l.relays, fail: func(err error) { l.Error(err) },
		log: slog.New(slog.NewTextHandler(l.said, nil)),
	}
	ended := make(chan struct{})
	go func() { defer close(ended); s.run(ctx) }()
	l.stop = func() { cancel(); <-ended }
	l.Cleanup(l.stop)
}

// try has one fault strike, and waits until the lane has got over it.
func (l *lane) try(a attempt) {
	l.Helper()
	proxy := l.kafka
	if a.protocol == faultproxy.Postgres {
		proxy = l.postgres
	}
	s := proxy.Arm(a.name, a.k, a.fault, a.hold())
	l.strike(a, s)
	l.recover(a)
}

// recover waits until the lane has got over a fault: what was written after it
// had its effect, so writer, relay and consumer all went on.
func (l *lane) recover(a attempt) {
	l.Helper()
	const units = `select count(*) from unit`
	mark := l.count(units)
	l.until(a.String()+": the writer to go on", func() bool { return l.count(units) > mark })
	l.until(a.String()+": what was written to have its effect", l.caughtUp())
}

// strike makes the kind of request happen until the fault has struck.
func (l *lane) strike(a attempt, s *faultproxy.Strike) {
	l.Helper()
	lives := 0
	if a.when == starting {
		lives = 3 * a.k // each makes such a request, most of them once
	}
	for range lives {
		l.restart()
		if l.lived(a, s) {
			return
		}
	}
	expired := time.NewTimer(patience)
	defer expired.Stop()
	select {
	case <-s.Struck():
	case <-expired.C:
		l.Fatalf("%s did not strike within %d restarts and %s; requests so far: %v %v", a, lives, patience, l.kafka.Seen(), l.postgres.Seen())
	}
}

// lived lets the service live until it has made all requests of a start, and tells
// whether the fault struck meanwhile. However slow the machine is, a life is long
// enough: what was written when it began has its effect. And it is long enough for
// maintenance, which begins after a second.
func (l *lane) lived(a attempt, s *faultproxy.Strike) bool {
	l.Helper()
	struck := func() bool {
		select {
		case <-s.Struck():
			return true
		default:
			return false
		}
	}
	least, caughtUp := time.Now().Add(3*time.Second), l.caughtUp()
	l.until(a.String()+": the service to start", func() bool {
		return struck() || time.Now().After(least) && caughtUp()
	})
	return struck()
}

func (l *lane) restart() {
	l.stop()
	l.start()
}

// until waits for a condition that costs a query.
func (l *lane) until(what string, condition func() bool) {
	l.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	expired := time.NewTimer(patience)
	defer expired.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-expired.C:
			l.Fatalf("waited %s in vain for %s", patience, what)
		}
	}
}

func (l *lane) count(query string, args ...any) (n int64) {
	l.Helper()
	must(l.T, l.db.Get(l.Context(), &n, query, args...))
	return n
}

// caughtUp tells whether the facts that are committed now have their effects.
func (l *lane) caughtUp() func() bool {
	goal := l.count(`select count(*) from outbox where topic = $1`, l.facts)
	return func() bool { return l.count(`select count(*) from effect`) >= goal }
}

// entry is one event as the log or the outbox has it.
type entry struct {
	ID       string `db:"event_id"`
	Key      string `db:"key"`
	Sequence int64  `db:"sequence"`
}

// check compares what was written with the log and the effects, when nothing
// moves any more. It returns how many events there are.
func (l *lane) check() int {
	l.Helper()
	must(l.T, l.idle())
	l.until("the rest of the effects", l.caughtUp())
	if units, facts := l.count(`select count(*) from unit`), l.count(`select count(*) from outbox where topic = $1`, l.facts); units != l.writer.unit || facts != l.writer.told {
		l.Errorf("the outbox holds %d facts of %d units; the writer wrote %d of %d", facts, units, l.writer.told, l.writer.unit)
	}
	total := 0
	for _, topic := range []string{l.facts, l.echoes} {
		total += l.checkLog(topic)
	}
	l.stop()
	l.checkEffects()
	if n := l.count(`select count(*) from relay_parked`); n != 0 {
		l.Errorf("the relay parked %d keys", n)
	}
	parked, err := inbox.List(l.Context(), l.db, 10)
	must(l.T, err)
	for _, p := range parked {
		l.Errorf("parked: %s #%d of key %s: %s %s", p.Kind, p.Sequence, p.Key, p.Cause, p.Reason)
	}
	return total
}

// checkLog fails unless the log of a topic holds the rows of the outbox, each
// once and those of a key in order.
func (l *lane) checkLog(topic string) int {
	l.Helper()
	var rows []entry
	must(l.T, l.db.Select(l.Context(), &rows, `select event_id, key, sequence from outbox where topic = $1 order by id`, topic))
	l.until(fmt.Sprintf("%d records in the log", len(rows)), func() bool { return len(l.read(topic)) >= len(rows) })
	times, last := map[string]int{}, map[string]int64{}
	for _, r := range l.read(topic) {
		times[r.ID]++
		if r.Sequence != last[r.Key]+1 {
			l.Errorf("%s: event %d of key %s after %d", topic, r.Sequence, r.Key, last[r.Key])
		}
		last[r.Key] = r.Sequence
	}
	for _, row := range rows {
		if times[row.ID] != 1 {
			l.Errorf("%s: event %d of key %s is %d times in the log", topic, row.Sequence, row.Key, times[row.ID])
		}
		delete(times, row.ID)
	}
	if len(times) > 0 {
		l.Errorf("%s: %d events in the log that the outbox does not have", topic, len(times))
	}
	return len(rows)
}

// read reads the whole log of a topic, as any consumer would.
func (l *lane) read(topic string) (all []entry) {
	l.Helper()
	ranges, err := l.log.Offsets(l.Context(), topic)
	must(l.T, err)
	at := make([]broker.Position, partitions)
	for p := range at {
		at[p] = broker.Position{Topic: topic, Partition: int32(p)}
	}
	for {
		left := false
		for p, r := range ranges[topic] {
			left = left || at[p].Offset < r.End
		}
		if !left {
			return all
		}
		got, err := l.log.Fetch(l.Context(), at, time.Second, 1<<20)
		must(l.T, err)
		for _, r := range got.Records {
			e, err := event.Decode(r.Key, r.Headers, r.Value)
			must(l.T, err)
			all = append(all, entry{e.ID, e.Key, e.Sequence})
		}
		at = got.Next
	}
}

// checkEffects fails unless each fact had its effect once, in the order of its key.
func (l *lane) checkEffects() {
	l.Helper()
	var effects []entry
	must(l.T, l.db.Select(l.Context(), &effects, `select '' as event_id, key, n as sequence from effect order by place`))
	last := map[string]int64{}
	for _, e := range effects {
		if e.Sequence != last[e.Key]+1 {
			l.Errorf("effect %d of key %s after %d", e.Sequence, e.Key, last[e.Key])
		}
		last[e.Key] = e.Sequence
	}
	wrong := l.count(`select count(*) from counter c left join total t using (key)
where coalesce(t.n, 0) <> c.version * (c.version + 1) / 2`)
	if wrong != 0 {
		l.Errorf("%d keys have another total than the sum of their facts", wrong)
	}
}
