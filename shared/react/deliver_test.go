package react_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"

	"pavane/internal/await"
	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/inbox"
	"pavane/shared/react"
)

func TestConsumer_RecordsTwice_AppliesOnce(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		c := r.consumer()
		r.deliver(c, r.record("a", 1, ""), r.record("a", 1, ""), r.record("b", 1, ""), r.record("a", 2, ""))
		r.deliver(c, r.record("a", 1, ""), r.record("a", 2, ""), r.record("b", 1, ""))
		r.requireDense("a", 2)
		r.requireDense("b", 1)
		requireEqual(t, "duplicates", r.metric("pavane_inbox_duplicates_total"), 4)
		requireEqual(t, "applied", r.metric("pavane_inbox_applied_total"), 3)
		requireEqual(t, "gaps", r.metric("pavane_inbox_gaps_total"), 0)
		requireEqual(t, "parked", len(r.parked()), 0)
	})
}

// Two instances that handle batches of different partitions meet at rows their
// keys share; one order everywhere keeps them from deadlocking.
func TestConsumer_KeysOfABatch_AreHandledInOneOrder(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		r.deliver(r.consumer(), r.record("c", 1, ""), r.record("a", 1, ""), r.record("b", 1, ""), r.record("a", 2, ""))
		requireEqual(t, "order", selected[string](r, `select key || n from effect order by place`), []string{"a1", "a2", "b1", "c1"})
	})
}

func TestConsumer_OldOffsetsAgain_AreDropped(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		first, second := r.record("a", 1, ""), r.record("a", 2, "")
		c := r.consumer()
		r.deliver(c, first, second)
		r.deliver(c, first, second)
		r.requireDense("a", 2)
		requireEqual(t, "duplicates by number", r.metric("pavane_inbox_duplicates_total"), 0)
	})
}

func TestConsumer_Effects_NameTheirCause(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		r.deliver(r.consumer(), r.record("a", 1, ""), r.record("b", 1, ""))
		for _, key := range []string{"a", "b"} {
			headers := selected[[]byte](r, `select headers from outbox where key = $1`, key)[0]
			if !bytes.Contains(headers, []byte(key+"-1")) || !bytes.Contains(headers, []byte("saga-"+key)) {
				t.Fatalf("headers of %s: %q: want the id of the record and its correlation id", key, headers)
			}
		}
	})
}

func TestConsumer_Gap_WaitsForTheMissingRecordAndThenGoesOnInOrder(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		c := r.consumer()
		r.deliver(c, r.record("a", 1, ""), r.record("a", 4, ""), r.record("a", 3, ""), r.record("b", 1, ""), r.record("a", 5, ""))
		requireEqual(t, "effects", r.effects("a"), []int64{1})
		requireEqual(t, "effects of another key", r.effects("b"), []int64{1})
		requireEqual(t, "gaps", r.metric("pavane_inbox_gaps_total"), 1)
		requireEqual(t, "parked keys", r.metric("pavane_parked_keys"), 1)
		r.deliver(c, r.record("a", 6, ""), r.record("a", 2, ""))
		r.requireDense("a", 6)
		requireEqual(t, "parked", len(r.parked()), 0)
		requireEqual(t, "parked keys", r.metric("pavane_parked_keys"), 0)
	})
}

func TestConsumer_PoisonRecord_ParksOnlyItsKeyWithFollowers(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"permanent", "panic", "secret"} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			bothWays(t, func(t *testing.T, r *rig) {
				c := r.consumer()
				var records []broker.Record
				for n := range int64(20) {
					records = append(records, r.record("good", n+1, ""))
				}
				records = append(records, r.record("bad", 1, ""), r.record("bad", 2, do), r.record("bad", 3, ""), r.record("other", 1, ""))
				r.deliver(c, records...)
				r.deliver(c, r.record("bad", 4, ""), r.record("other", 2, ""))
				r.requireDense("good", 20)
				r.requireDense("other", 2)
				r.requireDense("bad", 1)
				groups := r.parked()
				if len(groups) != 1 || groups[0].Cause != inbox.Fault || groups[0].Sequence != 2 || groups[0].Records != 3 || groups[0].Attempts != 1 {
					t.Fatalf("parked: %+v; want number 2 of bad and two followers, after one attempt", groups)
				}
			})
		})
	}
}

func TestConsumer_ParkedRecordComesAgain_WaitsForTheOperatorToo(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		c := r.consumer()
		r.deliver(c, r.record("a", 1, "permanent"), r.record("a", 2, ""))
		r.deliver(c, r.record("a", 1, ""), r.record("a", 2, ""))
		requireEqual(t, "effects", r.effects("a"), []int64{})
		id := inbox.ID{Source: source, Key: "a"}
		if _, err := inbox.Discard(t.Context(), r.db, id, 1, "test", "to see"); err != nil {
			t.Fatal(err)
		}
		r.deliver(c)
		requireEqual(t, "effects", r.effects("a"), []int64{2})
		requireEqual(t, "parked", len(r.parked()), 0)
	})
}

func TestConsumer_HandlerFailsThenSucceeds_AppliesInOrderOnce(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		calls := 0
		c := r.consumer(func(c *react.ConsumerConfig) {
			c.MaxAttempts = 10
			c.Reactions = []react.Reaction{on(r, failing(r, &calls, 3))}
		})
		r.deliver(c, r.record("a", 1, "sometimes"), r.record("b", 1, ""), r.record("a", 2, ""))
		r.requireDense("b", 1)
		await.True(t, wait, "all applied", func() bool {
			r.deliver(c)
			return len(r.effects("a")) == 2
		})
		r.requireDense("a", 2)
		requireEqual(t, "parked", len(r.parked()), 0)
	})
}

func TestConsumer_HandlerFailsForEver_ParksAfterMaxAttempts(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		c := r.consumer()
		r.deliver(c, r.record("a", 1, "fail"), r.record("a", 2, ""), r.record("b", 1, ""))
		await.True(t, wait, "parked for the operator", func() bool {
			r.deliver(c)
			return r.parked()[0].Cause == inbox.Fault
		})
		requireEqual(t, "attempts", r.parked()[0].Attempts, 3)
		requireEqual(t, "records", r.parked()[0].Records, 2)
		r.requireDense("b", 1)
	})
}

func TestConsumer_FaultAtCommitOrSwallowed_ParksOnlyItsKey(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"break promise", "swallow"} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			bothWays(t, func(t *testing.T, r *rig) {
				c := r.consumer(func(c *react.ConsumerConfig) { c.MaxAttempts = 1 })
				r.deliver(c, r.record("a", 1, ""), r.record("bad", 1, do), r.record("z", 1, ""))
				r.requireDense("a", 1)
				r.requireDense("z", 1)
				if g := r.parked(); len(g) != 1 || g[0].Key != "bad" || g[0].Cause != inbox.Fault {
					t.Fatalf("parked: %+v; want bad", g)
				}
			})
		})
	}
}

func TestConsumer_UnknownMajorVersion_ParksAndGoesOnAfterTheUpgrade(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		c := r.consumer()
		next := record(newer{did{ID: "a", N: 2}}, 2)
		first := r.record("a", 1, "")
		next.Offset, r.offset[0] = r.offset[0], r.offset[0]+1
		r.deliver(c, first, next, r.record("a", 3, ""))
		if g := r.parked(); len(g) != 1 || g[0].Cause != inbox.UnknownVersion || g[0].Records != 2 {
			t.Fatalf("parked: %+v; want the new version with its follower", g)
		}
		r.redrive("a", 1)
		r.deliver(c)
		requireEqual(t, "cause after a redrive without an upgrade", r.parked()[0].Cause, inbox.UnknownVersion)
		upgraded := r.consumer(func(c *react.ConsumerConfig) {
			c.Metrics = nil
			c.Reactions = append(c.Reactions, on(r, r.reactNewer))
		})
		r.deliver(upgraded)
		r.requireDense("a", 3)
		requireEqual(t, "parked", len(r.parked()), 0)
		requireEqual(t, "log", selected[string](r, `select action || ' ' || sequence || ' ' || records || ' ' || who || ': ' || why from parked_log order by id`),
			[]string{"redrive 2 1 test: to see", "redrive 2 1 the kit: this build of rig knows test.did.v2"})
		r.deliver(upgraded, r.record("a", 4, ""))
		r.requireDense("a", 4)
	})
}

// More keys than one look takes, each with both versions, and nobody redrives.
func TestConsumer_VersionIsKnownNow_AllItsKeysGoOnInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const keys = 70
	var records []broker.Record
	for k := range keys {
		key := fmt.Sprintf("key-%d", k)
		records = append(records, r.next(newer{did{ID: key, N: 1}}, 1), r.record(key, 2, ""), r.next(newer{did{ID: key, N: 3}}, 3))
	}
	r.deliver(r.consumer(), records...)
	requireEqual(t, "effects of the version that is not known", selected[int](r, `select count(*) from effect`), []int{0})
	requireEqual(t, "keys that wait", r.metric("pavane_parked_keys"), keys)
	r.deliver(r.consumer(func(c *react.ConsumerConfig) { c.Metrics, c.Reactions = nil, append(c.Reactions, on(r, r.reactNewer)) }), records...)
	for k := range keys {
		r.requireDense(fmt.Sprintf("key-%d", k), 3)
	}
	requireEqual(t, "parked", len(r.parked()), 0)
	requireEqual(t, "noted", selected[int](r, `select count(*) from parked_log where who = 'the kit'`), []int{keys})
}

// What its handler cannot do then waits for an operator, as any other.
func TestConsumer_VersionIsKnownNowAndItsHandlerCannotDoIt_WaitsForAnOperator(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.deliver(r.consumer(), r.next(newer{did{ID: "a", N: 1, Do: "permanent"}}, 1), r.record("a", 2, ""))
	upgraded := r.consumer(func(c *react.ConsumerConfig) { c.Metrics, c.Reactions = nil, append(c.Reactions, on(r, r.reactNewer)) })
	for range 2 {
		r.deliver(upgraded)
		if g := r.parked(); len(g) != 1 || g[0].Cause != inbox.Fault || g[0].Records != 2 || g[0].Attempts != 1 {
			t.Fatalf("parked: %+v; want the one that failed with its follower", g)
		}
	}
	requireEqual(t, "noted", selected[string](r, `select who from parked_log`), []string{"the kit"})
}

func TestConsumer_KindWithoutReaction_OnlyCounts(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		other := record(told{ID: "a", N: 1}, 1)
		other.Offset, r.offset[0] = 0, 1
		r.deliver(r.consumer(), other, r.record("a", 2, ""))
		requireEqual(t, "effects", r.effects("a"), []int64{2})
		requireEqual(t, "parked", len(r.parked()), 0)
	})
}

func TestConsumer_UndecodableRecords_AreKeptAndBlockNobody(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		c := r.consumer()
		bad := func(change func(*broker.Record)) broker.Record {
			rec := r.record("a", 2, "")
			change(&rec)
			return rec
		}
		long := strings.Repeat("k", 5000)
		r.deliver(c, r.record("a", 1, ""),
			bad(func(rec *broker.Record) { rec.Headers = nil }),
			bad(func(rec *broker.Record) { rec.Key = nil }),
			bad(func(rec *broker.Record) { rec.Key, rec.Value, rec.Headers = nil, nil, nil }),
			bad(func(rec *broker.Record) { rec.Key = []byte("\xff\x00\xfe") }),
			reKeyed(bad(func(*broker.Record) {}), "nul\x00"),
			reKeyed(bad(func(*broker.Record) {}), "\xff"),
			reKeyed(bad(func(*broker.Record) {}), long),
			r.record("a", 2, ""))
		r.requireDense("a", 2)
		records := 0
		for _, g := range r.parked() {
			if g.Cause != inbox.Undecodable || g.Source != topic || g.Sequence != 0 {
				t.Fatalf("parked: %+v; want undecodable, from the topic", g)
			}
			records += g.Records
		}
		requireEqual(t, "undecodable records", records, 7)
	})
}

func TestConsumer_BadData_ParksItsKey(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		rec := r.record("a", 1, "")
		rec.Value = []byte(`{"id": "b"}`)
		r.deliver(r.consumer(), rec, r.record("b", 1, ""))
		r.requireDense("b", 1)
		if g := r.parked(); len(g) != 1 || g[0].Key != "a" || g[0].Cause != inbox.Fault {
			t.Fatalf("parked: %+v; want a", g)
		}
	})
}

func TestConsumer_FaultAtAnyPoint_AppliesOnce(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"inbox.before_handlers", "inbox.after_handlers", "inbox.before_commit", "inbox.after_commit"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			bothWays(t, func(t *testing.T, r *rig) {
				set, err := failpoint.Parse(point + "=error@1;" + point + "=error@2;" + point + "=error@4")
				if err != nil {
					t.Fatal(err)
				}
				ctx := failpoint.With(t.Context(), set)
				c := r.consumer()
				r.deliverIn(ctx, c, r.record("a", 1, ""), r.record("a", 3, ""), r.record("b", 1, ""))
				r.deliverIn(ctx, c, r.record("a", 2, ""), r.record("bad", 1, "permanent"))
				r.requireDense("a", 3)
				r.requireDense("b", 1)
				requireEqual(t, "parked", len(r.parked()), 1)
				if hits := set.Hits()[point]; hits < 5 {
					t.Fatalf("%s was passed %d times; want 5 or more, else nothing was tried", point, hits)
				}
			})
		})
	}
}

func TestConsumer_Serial_InstancesTakeTurns(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig) {
		var inside, most atomic.Int32
		handler := func(ctx context.Context, tx *sqlx.Tx, e did) ([]event.Numbered, error) {
			most.Store(max(most.Load(), inside.Add(1)))
			defer inside.Add(-1)
			if _, err := tx.ExecContext(ctx, `select pg_sleep(0.002)`); err != nil {
				return nil, err
			}
			return r.react(ctx, tx, e)
		}
		const instances = 3
		ended := make(chan error, instances)
		for i := range int32(instances) {
			c := r.consumer(func(c *react.ConsumerConfig) {
				c.Serial, c.Partitions, c.BatchSize, c.Metrics = true, instances, 5, nil
				c.Reactions = []react.Reaction{on(r, handler)}
			})
			var records []broker.Record
			for n := range int64(20) {
				rec := record(did{ID: strings.Repeat("k", int(i)+1), N: n + 1}, n+1)
				rec.Partition, rec.Offset = i, n
				records = append(records, rec)
			}
			go func() { ended <- c.Deliver(t.Context(), records...) }()
		}
		for range instances {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
		requireEqual(t, "handlers at once", most.Load(), 1)
		r.requireDense("kkk", 20)
	})
}
