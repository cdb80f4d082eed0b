package relay_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/internal/await"
	"pavane/shared/relay"
)

// So much waits that to count it takes longer than there is.
func TestBacklogCollector_CountTakesTooLong_ShowsAgeAndParkedKeys(t *testing.T) {
	b := setup(t)
	b.write("key", 40)
	b.exec(`insert into relay_released (key, topic, since_id, chunk, chunk_upto, target, upto_id, reason, parked_at, action, records, who, why)
values ('key', $1, 0, 0, 0, '3:3:', 0, '', clock_timestamp(), 'redrive', 0, '', '')`, b.topic)
	b.exec(`create or replace function outbox_replaced(of_key text, of_topic text, of_id bigint, of_xid xid8) returns boolean
language sql as $$ select pg_sleep(0.1) is null $$`)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(relay.NewBacklogCollector(b.pool))
	families, err := metrics.Gather()
	must(t, err)
	var shown []string
	for _, f := range families {
		shown = append(shown, f.GetName())
	}
	if got, want := strings.Join(shown, " "), "pavane_outbox_oldest_seconds pavane_relay_parked_keys"; got != want {
		t.Errorf("shown are %s; want %s", got, want)
	}
}

// heard tells a channel of each warning about the maintenance.
type heard struct {
	slog.Handler
	warnings chan<- struct{}
}

func (heard) Enabled(context.Context, slog.Level) bool { return true }

func (h heard) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "maintenance") {
		select {
		case h.warnings <- struct{}{}:
		default:
		}
	}
	return nil
}

// oldPartitions counts the outbox's partitions before the year 2021.
func (b *bench) oldPartitions() (n int) {
	b.t.Helper()
	must(b.t, b.db.SQL().QueryRowContext(b.t.Context(),
		`select count(*) from pg_inherits where inhparent = 'outbox'::regclass and inhrelid::regclass::text < 'outbox_2021'`).Scan(&n))
	return n
}

// Maintenance waits for the first chunk, and not for a Kafka that does not answer.
func TestRelay_KafkaIsAwayFromTheStart_MaintainsAllTheSame(t *testing.T) {
	b := setup(t)
	b.exec(`create table outbox_20200101 partition of outbox for values from ('2020-01-01') to ('2020-01-02')`)
	b.write("waits", 1)
	asks := &counting{Client: b.client}
	asks.fail.Store(1 << 30)
	b.start(b.relay(asks))
	await.True(t, 30*time.Second, "the old partition is dropped", func() bool { return b.oldPartitions() == 0 })
	if n := len(b.log()); n != 0 {
		t.Errorf("the log holds %d records; Kafka was to be away", n)
	}
}

func TestRelay_OldPartitionInUse_IsDroppedLaterAndStallsNobody(t *testing.T) {
	b := setup(t)
	b.exec(`create table outbox_20200101 partition of outbox for values from ('2020-01-01') to ('2020-01-02')`)
	b.exec(`create table outbox_20200102 partition of outbox for values from ('2020-01-02') to ('2020-01-03')`)
	// Somebody writes and somebody reads, and neither ends.
	writer, reader := b.begin(), b.begin()
	must(t, b.append(t.Context(), writer, "held", 1))
	var rows int
	must(t, reader.GetContext(t.Context(), &rows, `select count(*) from outbox`))
	tried := make(chan struct{}, 100)
	b.start(b.relay(nil, func(c *relay.Config) {
		c.Maintain, c.Logger = time.Millisecond, slog.New(heard{slog.DiscardHandler, tried})
	}))
	for len(tried) < 5 {
		begin := time.Now()
		b.write("key", 1)
		if waited := time.Since(begin); waited > 5*time.Second { // a statement that waits for the reader ends later
			t.Fatalf("while old partitions could not be dropped, a writer waited %v", waited)
		}
	}
	if got := b.oldPartitions(); got != 2 {
		t.Errorf("%d old partitions are left under a reader, want 2", got)
	}
	must(t, reader.Rollback())
	must(t, writer.Commit())
	await.True(t, 30*time.Second, "the old partitions are dropped", func() bool { return b.oldPartitions() == 0 })
	b.requireExact()
}

func TestRelay_TransactionHeldOpen_ComingPartitionsAreMade(t *testing.T) {
	b := setup(t)
	writer := b.begin()
	must(t, b.append(t.Context(), writer, "held", 1))
	b.exec(`select outbox_extend(9)`)
	must(t, writer.Commit())
	var rows int
	must(t, b.db.SQL().QueryRowContext(t.Context(), `select count(*) from pg_inherits where inhparent = 'outbox'::regclass`).Scan(&rows))
	if rows != 11 {
		t.Errorf("the outbox has %d partitions, want 10 days and the default", rows)
	}
}

// Rows that were stamped while the clock was days ahead are in the default
// partition. The day they bear must not keep the other days from being made, and the
// rows go when all of them are old enough, as a partition does.
func TestRelay_ClockWasDaysAhead_OutboxGoesOnAndIsRidOfTheRows(t *testing.T) {
	b := setup(t)
	b.write("key", 3)
	b.exec(`update outbox set created_at = created_at + interval '4 days'`)
	var partitions, stray int
	count := func() bool {
		must(t, b.db.SQL().QueryRowContext(t.Context(), `select (select count(*) from pg_inherits where inhparent = 'outbox'::regclass), (select count(*) from outbox_default)`).Scan(&partitions, &stray))
		return true
	}
	b.exec(`select outbox_extend(9)`)
	if count(); partitions != 10 || stray != 3 {
		t.Errorf("%d partitions, %d rows in the default; want 9 days and the default, with all 3", partitions, stray)
	}
	b.start(b.relay(nil, func(c *relay.Config) { c.Maintain = time.Millisecond }))
	b.await(3)
	b.exec(`update outbox_default set created_at = '2020-01-01'`)
	b.write("key", 1)
	await.True(t, 30*time.Second, "the stray rows are gone", func() bool { return count() && stray == 0 })
}

// A transaction that was open for longer than rows are kept commits while its
// partition is about to be dropped: nobody had looked for its row.
func TestOutboxDrop_OldTransactionCommitsMeanwhile_ItsRowStays(t *testing.T) {
	for name, at := range map[string]string{"a day's": "2020-01-01", "the default": "2019-01-01"} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.exec(`create table outbox_20200101 partition of outbox for values from ('2020-01-01') to ('2020-01-02')`)
			b.write("old", 1)
			b.exec(`update outbox set created_at = $1::timestamptz`, at)
			late := b.begin()
			must(t, b.append(t.Context(), late, "late", 1))
			_, err := late.ExecContext(t.Context(), `update outbox set created_at = $1::timestamptz where key = 'late'`, at)
			must(t, err)
			var published string
			must(t, b.db.Get(t.Context(), &published, `select pg_current_snapshot()::text`))
			dropped := make(chan error, 1)
			go func() {
				_, err := b.pool.SQL().ExecContext(t.Context(), `select outbox_drop(clock_timestamp() - interval '1 day', $1)`, published)
				dropped <- err
			}()
			await.True(t, 30*time.Second, "the drop waits for the writer", func() bool {
				var waits bool
				must(t, b.db.Get(t.Context(), &waits, `select exists (select from pg_locks where relation = 'outbox'::regclass and not granted)`))
				return waits
			})
			must(t, late.Commit())
			must(t, <-dropped)
			if n := b.rows(); n != 2 {
				t.Errorf("the outbox holds %d rows, want both", n)
			}
		})
	}
}
