package inbox_test

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/fault"
	"pavane/shared/inbox"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/react"
	"pavane/shared/sagatest"
)

// ParcelSent says that a parcel left the house.
type ParcelSent struct {
	ParcelID string `json:"parcel_id"`
}

func (ParcelSent) Kind() string  { return "parcel.sent.v1" }
func (e ParcelSent) Key() string { return e.ParcelID }

// A handler that cannot do its work parks the key; the operator looks, mends and
// lets it go.
func ExampleRedrive() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.WithKit(t)
	ctx := context.Background()
	out, err := outbox.New(outbox.Config{Source: "/depot-svc", Topics: event.Topics{"parcel": "parcels.events.v1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	reaction := react.On(func(_ context.Context, _ *sqlx.Tx, e ParcelSent) ([]event.Numbered, error) {
		return nil, fault.Permanent("parcel %s has no weight", e.ParcelID)
	})
	fmt.Println(sagatest.Apply(t, db, out, reaction, ParcelSent{ParcelID: "p-1"}) != nil)

	parked, err := inbox.List(ctx, db, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, g := range parked {
		fmt.Printf("%s %s #%d (%s): %s\n", g.Key, g.Kind, g.Sequence, g.Cause, g.Reason)
	}
	id := inbox.ID{Source: parked[0].Source, Key: parked[0].Key}
	n, err := inbox.Redrive(ctx, db, id, "ada", "weights are known now")
	fmt.Println(n, "let go,", err)
	// Output:
	// true
	// p-1 parcel.sent.v1 #1 (fault): parcel p-1 has no weight
	// 1 let go, <nil>
}

// What can never be handled is given up, in the operator's name.
func ExampleDiscard() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.WithKit(t)
	ctx := context.Background()
	out, err := outbox.New(outbox.Config{Source: "/depot-svc", Topics: event.Topics{"parcel": "parcels.events.v1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	reaction := react.On(func(context.Context, *sqlx.Tx, ParcelSent) ([]event.Numbered, error) {
		return nil, fault.Permanent("the depot is closed")
	})
	fmt.Println(sagatest.Apply(t, db, out, reaction, ParcelSent{ParcelID: "p-1"}) != nil)

	parked, err := inbox.List(ctx, db, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	id := inbox.ID{Source: parked[0].Source, Key: parked[0].Key}
	fmt.Println(inbox.Discard(ctx, db, id, parked[0].Sequence, "ada", "the parcel is lost"))
	parked, err = inbox.List(ctx, db, 10)
	fmt.Println(len(parked), "keys wait,", err)
	// Output:
	// true
	// 1 <nil>
	// 0 keys wait, <nil>
}
