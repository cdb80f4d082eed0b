package order

import (
	"testing"
	"time"
)

// A key is good for a day: the same request answers for the same order. Then it
// goes, and the order stays.
func TestPurgeKeys_AfterADayAndNotBefore_KeyIsFreeAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	r := request()
	r.IdempotencyKey = "old"
	first, _, err := b.s.Place(b.ctx, r)
	b.must(err)
	for _, c := range []struct {
		age     string
		deleted int64
	}{
		{"23 hours 59 minutes", 0},
		{"24 hours 1 minute", 1},
	} {
		b.must(b.exec(`update idempotency set created_at = clock_timestamp() - interval '` + c.age + `'`))
		if n, err := b.s.PurgeKeysOnce(b.ctx); err != nil || n != c.deleted {
			t.Errorf("%d keys of the age of %s were deleted, %v; want %d", n, c.age, err, c.deleted)
		}
		o, replayed, err := b.s.Place(b.ctx, r)
		if err != nil || replayed != (c.deleted == 0) || replayed != (o.ID == first.ID) {
			t.Errorf("after %s the request is order %s, replayed %t, %v; the first was %s", c.age, o.ID, replayed, err, first.ID)
		}
	}
	if n := b.count(`select count(*) from orders`); n != 2 {
		t.Errorf("%d orders, want both", n)
	}
}

// More than a batch goes in one round, and what is young stays.
func TestPurgeKeys_Many_AllOldOnesGo(t *testing.T) {
	t.Parallel()
	b := setup(t, time.Minute)
	o := b.place()
	b.must(b.exec(`insert into idempotency (customer_id, key, body_hash, order_id, created_at)
select 'cust-01', 'k' || n, sha256('x'), '` + o.ID + `', clock_timestamp() - n * interval '1 minute' from generate_series(1, 4000) n`))
	if n, err := b.s.PurgeKeysOnce(b.ctx); err != nil || n != 4000-24*60+1 {
		t.Errorf("%d keys were deleted, %v; want those of before a day, %d", n, err, 4000-24*60+1)
	}
	if n := b.count(`select count(*) from idempotency where created_at < clock_timestamp() - interval '24 hours'`); n != 0 {
		t.Errorf("%d old keys are left", n)
	}
}
