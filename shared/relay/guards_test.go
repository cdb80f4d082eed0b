package relay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/internal/devstack"
	"pavane/migrations"
	"pavane/shared/broker"
	"pavane/shared/failpoint"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func do(t *testing.T, db *postgres.DB, sql string) {
	t.Helper()
	if _, err := db.SQL().Exec(sql); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, db *postgres.DB, sql string) (n int64) {
	t.Helper()
	if err := db.Get(t.Context(), &n, sql); err != nil {
		t.Fatal(err)
	}
	return n
}

const acknowledge = `insert into relay_ack (chunk, acked_at, offsets) values (1, now(), '{"t/0": 0}')`

// How far a partition's pieces have come is written by who knows all that others
// have written: else pieces would be sent under numbers that others have given to
// other records.
func TestStep_AnotherRelayChangedTheChunk_DoesNothing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"nothing":            `select 1`,
		"a piece":            `update relay_journal set progress = '{"t/0": {"size": 5}}'`,
		"a parked key":       `update relay_journal set counts = '{"t/0": 9}'`,
		"another producer":   `update relay_journal set producer_id = 8`,
		"another epoch":      `update relay_journal set producer_epoch = 1`,
		"an acknowledgement": acknowledge,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := planned(t)
			do(t, r.cfg.DB, change)
			if moved, err := r.head.step(t.Context(), r.cfg.DB, "t/0", progress{Size: 2}); moved != (name == "nothing") || err != nil {
				t.Errorf("step: %t, %v", moved, err)
			}
		})
	}
}

// A chunk that is on its way is compared with the log as it is sent, by whoever
// sends it: this relay knows nothing of how far that one is.
func TestVerify_HeadIsOnItsWay_LeavesTheLogAlone(t *testing.T) {
	t.Parallel()
	r := planned(t) // it has no Kafka to ask
	r.head.ends = map[string]int64{"t/0": 5}
	r.verified = time.Now().Add(-time.Hour)
	if err := r.verify(t.Context()); err != nil {
		t.Errorf("verify = %v", err)
	}
}

// An idle relay whose Kafka is away asks it every now and then, and not with each
// look.
func TestVerify_KafkaIsAway_IsAskedWhenItIsDueAndToldOfRarely(t *testing.T) {
	t.Parallel()
	r := planned(t)
	r.head.acked, r.head.ends = true, map[string]int64{"t/0": 5}
	kafka := &silent{}
	r.cfg.Publisher = kafka
	told := 0
	for n := range 20 {
		r.verified = time.Now().Add(-2 * verifyEvery)
		for range 3 {
			if r.verify(t.Context()) != nil {
				told++
			}
		}
		if kafka.asked != n+1 {
			t.Fatalf("Kafka was asked %d times when it was due %d times", kafka.asked, n+1)
		}
	}
	if told != 2 {
		t.Errorf("told of %d of 20 faults, want the first and the eleventh", told)
	}
}

// silent is a Kafka that does not answer.
type silent struct {
	Publisher
	asked int
}

func (s *silent) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	s.asked++
	return nil, broker.ErrUnavailable
}

// A read ahead may last longer than the chunk for which it began is the head. The
// next one fills the same batches.
func TestReadAhead_OneBeforeIsStillReading_EndsItFirst(t *testing.T) {
	t.Parallel()
	r := planned(t)
	r.cfg.Partitions, r.cfg.ChunkBytes = 1, 1000
	r.spare, r.limit, r.head.last = newReader(r.cfg), firstLimit, false
	defer r.stopAhead()
	err := r.cfg.DB.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `lock table outbox in access exclusive mode`); err != nil {
			return err
		}
		r.readAhead(t.Context())
		first := r.ahead
		r.readAhead(t.Context())
		select {
		case <-first.done:
		default:
			t.Error("two read into the same batches")
		}
		r.stopAhead() // it waits for the lock, too
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Rows that are gone cannot be in the pieces that the journal has counted.
func TestPieces_RowsOfTheChunkAreGone_RefusesToGoOn(t *testing.T) {
	t.Parallel()
	r := planned(t) // of ten rows, which are not there
	r.reader = newReader(r.cfg)
	if moved, err := r.head.step(t.Context(), r.cfg.DB, "t/0", progress{Size: 5}); !moved || err != nil {
		t.Fatalf("step: %t, %v", moved, err)
	}
	s := pieceSender{Relay: r, tp: "t/0", offsets: map[string]int64{}, healedAt: -1}
	if err := s.look(t.Context()); !errors.Is(err, ErrRefuse) {
		t.Errorf("look = %v, want ErrRefuse", err)
	}
}

// The journal and the outbox are cut back in two transactions. A chunk whose rows
// are gone cannot be put back; healing looks further.
func TestHeal_RowsOfAnOldChunkAreGone_IsAGap(t *testing.T) {
	t.Parallel()
	r := planned(t)
	do(t, r.cfg.DB, acknowledge)
	if err := r.putBack(t.Context(), newReader(r.cfg), 1, "t/0", math.MaxInt64); !errors.Is(err, broker.ErrSequenceGap) {
		t.Errorf("putBack = %v, want a gap", err)
	}
}

// Without a chunk the next relay would begin from the first row, under a new
// producer, and everything that is retained would come twice.
func TestMaintain_NothingIsWrittenForLong_NewestChunkStays(t *testing.T) {
	t.Parallel()
	r := planned(t)
	do(t, r.cfg.DB, `insert into relay_journal select (jsonb_populate_record(j, '{"chunk": 2}')).* from relay_journal j`)
	do(t, r.cfg.DB, `insert into relay_ack (chunk, acked_at, offsets) select n, now() - interval '30 hours', '{}' from generate_series(1, 2) n`)
	r.cfg.Retention = 24 * time.Hour
	if err := r.maintainOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := []int64{number(t, r.cfg.DB, `select coalesce(max(chunk), 0) from relay_journal`), number(t, r.cfg.DB, `select count(*) from relay_journal`)}; got[0] != 2 || got[1] != 1 {
		t.Errorf("the newest of %d chunks is %d, want the second alone", got[1], got[0])
	}
}

// The clock went back between a row that Kafka refuses and one that waits behind it,
// and between that row and its acknowledgement: both are older than the row itself.
func TestMaintain_ClockWentBackBehindAParkedRow_WhatIsHeldBackStaysAndCanBeReleased(t *testing.T) {
	t.Parallel()
	r := planned(t)
	do(t, r.cfg.DB, acknowledge)
	do(t, r.cfg.DB, `insert into relay_journal select (jsonb_populate_record(j, '{"chunk": 2}')).* from relay_journal j`)
	do(t, r.cfg.DB, `insert into relay_ack (chunk, acked_at, offsets) values (2, now(), '{}')`)
	do(t, r.cfg.DB, `update relay_ack set acked_at = '2020-02-02'`)
	do(t, r.cfg.DB, `insert into outbox (topic, key, sequence, event_id, type, headers, payload, created_at) values
('t', 'k', 1, 'e1', 'a.b.v1', '\x00', '\x00', now()), ('t', 'k', 2, 'e2', 'a.b.v1', '\x00', '\x00', '2020-02-02')`)
	do(t, r.cfg.DB, `insert into relay_parked (key, topic, since_id, chunk, reason) select o.key, o.topic, min(o.id), 1, 'refused' from outbox o group by 1, 2`)
	do(t, r.cfg.DB, `update relay_journal set target = pg_current_snapshot(), upto_id = 1000000`) // all of it is behind the relay
	if err := r.maintainOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := Release(t.Context(), r.cfg.DB, "k", "ada", "the limit is raised"); n != 2 || err != nil {
		t.Errorf("%d rows were released, %v; want both", n, err)
	}
	do(t, r.cfg.DB, `update relay_journal set target = pg_current_snapshot()`)
	if err := r.maintainOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if old := number(t, r.cfg.DB, `select count(*) from outbox_default`); old != 0 {
		t.Errorf("%d rows of old days are there after the release, want none", old)
	}
}

// A log that lost more than the journal reaches is found out without a look at each
// chunk: there may be millions.
func TestHeal_LogEndsFarBack_NewestChunkWithinIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	r := planned(t)
	do(t, r.cfg.DB, `update relay_journal set ends = '{"t/0": 1}'`)
	filled(t, r.cfg.DB, `insert into relay_journal (chunk, prev, prev_id, prev_xid, target, target_id, target_xid, after_id, upto_id, row_count,
  last_of_set, producer_id, producer_epoch, first_sequences, counts, stamp_ms, ends)
select n, j.prev, j.prev_id, j.prev_xid, j.target, j.target_id, j.target_xid, j.after_id, j.upto_id, j.row_count, j.last_of_set,
  j.producer_id, j.producer_epoch, j.first_sequences, case when n % 2 = 0 then j.counts else '{}' end, j.stamp_ms, jsonb_build_object('t/0', n)
from relay_journal j, generate_series($1::int, $2) n where j.chunk = 1 and n > 1`, 60_000)
	do(t, r.cfg.DB, `insert into relay_ack (chunk, acked_at, offsets) values (100, now(), '{"t/0": 200}')`)
	for end, want := range map[int64]int64{200000: 60000, 59999: 59998, 30001: 30000, 101: 98, 1: 1, 0: 0} {
		if found, err := r.within(t.Context(), "t/0", 60000, end); found != want || err != nil {
			t.Errorf("the log ends at %d: chunk %d is the newest within, %v; want %d", end, found, err, want)
		}
	}
}

// What is not noted as released would be published from both places.
func TestRelease_ChunkOfTheParkedRowIsGone_ChangesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.WithKit(t)
	do(t, db, `select nextval('outbox_id_seq')`)
	do(t, db, `insert into relay_parked (key, topic, since_id, chunk, reason) values ('k', 't', 1, 7, 'too large')`)
	if n, err := Release(t.Context(), db, "k", "ada", "to see"); err == nil || !strings.Contains(err.Error(), "has lost a chunk") {
		t.Errorf("%d rows were released, %v; want an error that names the lost chunk", n, err)
	}
	if number(t, db, `select count(*) from relay_parked`) != 1 {
		t.Error("the key is not parked any more")
	}
}

// The first chunk of a set reaches back to the first id of all, and what is
// published is not counted each time that one is on its way.
func TestAhead_FirstChunkOfALaterSetIsOpen_CountsFromItsSet(t *testing.T) {
	t.Parallel()
	r := planned(t)
	do(t, r.cfg.DB, `update relay_journal set prev_id = 1000, after_id = 0, upto_id = 1005`)
	do(t, r.cfg.DB, `select setval('outbox_id_seq', 1010)`)
	if n := number(t, r.cfg.DB, aheadSQL); n != 10 {
		t.Errorf("%d ids are ahead, want 10", n)
	}
}

// While Kafka is away, what was read before is not what is planned after it: rows
// that would be planned meet the failpoint, and new ones are not there.
func TestPublishNext_RowsWereReadLongAgo_ReadsAgain(t *testing.T) {
	t.Parallel()
	r := planned(t)
	cfg := r.cfg
	cfg.Partitions, cfg.ChunkBytes = 1, 1000
	set, err := failpoint.Parse("relay.before_plan=error")
	if err != nil {
		t.Fatal(err)
	}
	for age, again := range map[time.Duration]bool{0: false, 2 * freshFor: true} {
		r.reader, r.spare, r.limit = newReader(cfg), newReader(cfg), firstLimit
		before := &rowSet{rows: 1, headChunk: r.head.number, incarnation: r.incarnation, came: time.Now().Add(-age)}
		r.ahead = &ahead{of: r.head, cancel: func() {}, done: make(chan struct{}), found: before}
		close(r.ahead.done)
		_, err := r.publishNext(failpoint.With(t.Context(), set))
		if (err == nil) != again || r.ahead != nil {
			t.Errorf("rows read %s ago: %v, want them to be read again: %t", age, err, again)
		}
	}
}

// A look is spared while the server shows the same as at the last one, which found
// nothing: also a row whose transaction was open then. No other test is at work on
// this server.
func TestLook_NothingWasFound_IsSparedUntilSomethingIsCommitted(t *testing.T) {
	t.Parallel()
	r := plannedIn(t, undisturbed(t))
	cfg := r.cfg
	cfg.Partitions, cfg.ChunkBytes = 1, 1000
	r.reader, r.limit = newReader(cfg), firstLimit
	look := func() (rows int, spared bool) {
		t.Helper()
		const mark = -1
		if r.nothing != nil {
			r.nothing.found.headChunk = mark
		}
		found, err := r.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found.rows, found.headChunk == mark
	}
	open, err := cfg.DB.SQL().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Rollback() //nolint:errcheck // it is committed below
	if _, err := open.ExecContext(t.Context(), `insert into outbox (topic, key, sequence, event_id, type, headers, payload) values ('t', 'k', 1, 'e', 'a.b.v1', '\x00', 'p')`); err != nil {
		t.Fatal(err)
	}
	if rows, spared := look(); rows != 0 || spared {
		t.Fatalf("the first look: %d rows, spared %t", rows, spared)
	}
	if rows, spared := look(); rows != 0 || !spared {
		t.Errorf("nothing has happened since: %d rows, spared %t", rows, spared)
	}
	do(t, cfg.DB, `create table other ()`)
	if rows, spared := look(); rows != 0 || spared {
		t.Errorf("another transaction has ended: %d rows, spared %t", rows, spared)
	}
	if err := open.Commit(); err != nil {
		t.Fatal(err)
	}
	if rows, spared := look(); rows != 1 || spared {
		t.Errorf("an open transaction was committed: %d rows, spared %t, want its row", rows, spared)
	}
}

// undisturbed is a database on a server of its own.
func undisturbed(t *testing.T) *postgres.DB {
	t.Helper()
	server, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{NoSync: true, Settings: map[string]string{"autovacuum": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	db := pgtest.Open(t, server.URL("postgres"))
	pgtest.Migrate(t, db, migrations.Kit())
	return db
}

// The rows that a release copies are those held back for what was refused when
// they were read; what is refused since holds back others that were there before.
func TestRelease_KeyIsParkedWhileItsRowsAreRead_ReadsThemAgain(t *testing.T) {
	t.Parallel()
	const (
		row  = `insert into outbox (topic, key, sequence, event_id, type, headers, payload) values ('t', 'k', 1, 'e', 'a.b.v1', '\x00', 'p')`
		park = `insert into relay_parked (key, topic, since_id, chunk, reason) values ('k', '%s', %d, 1, 'too large')`
	)
	for name, before := range map[string]string{"it was not": `select 1`, "for another topic": fmt.Sprintf(park, "s", 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := planned(t).cfg.DB
			do(t, db, row)
			do(t, db, before)
			rel := releaser{db: db, action: "redrive", key: "k", who: "ada", why: "to see"}
			h, err := rel.held(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			do(t, db, fmt.Sprintf(park, "t", number(t, db, `select id from outbox`)))
			err = db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return rel.move(ctx, tx, h) })
			if !errors.Is(err, errMoved) {
				t.Errorf("move: %v, want %v", err, errMoved)
			}
			if n, err := Release(t.Context(), db, "k", "ada", "to see"); n != 1 || err != nil {
				t.Errorf("release: %d rows, %v", n, err)
			}
		})
	}
}
