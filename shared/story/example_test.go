package story_test

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/story"
)

// What the service knows of a key, before any relay has published it.
func ExampleLoad() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.WithKit(t)
	ctx := context.Background()
	out, err := outbox.New(outbox.Config{Source: "/example", Topics: event.Topics{"told": "told.events.v1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return out.Append(ctx, tx, event.Number(1, told{ID: "k-1", N: 1}, told{ID: "k-1", N: 2})...)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := story.Load(ctx, db, "k-1", partitions)
	for _, w := range s.Written {
		fmt.Println(w.Sequence, w.Kind, string(w.Data), "published:", w.Offset != nil)
	}
	fmt.Println(len(s.Applied), "applied,", len(s.Parked), "parked,", err)
	// Output:
	// 1 told.it.v1 {"id":"k-1","n":1} published: false
	// 2 told.it.v1 {"id":"k-1","n":2} published: false
	// 0 applied, 0 parked, <nil>
}
