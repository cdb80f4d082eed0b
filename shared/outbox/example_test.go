package outbox_test

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
)

// ParcelSent says that a parcel left the house.
type ParcelSent struct {
	ParcelID string `json:"parcel_id"`
}

func (ParcelSent) Kind() string  { return "parcel.sent.v1" }
func (e ParcelSent) Key() string { return e.ParcelID }

// The state and the event that tells of it stand or fall together.
func ExampleOutbox_Append() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.WithKit(t)

	ctx := context.Background()
	out, err := outbox.New(outbox.Config{Source: "/parcel-svc", Topics: event.Topics{"parcel": "parcels.events.v1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		// Here the service changes its own tables. It locks the parcel's row and
		// takes its new version, 1, as the number of the event.
		return out.Append(ctx, tx, event.Number(1, ParcelSent{ParcelID: "p-1"})...)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	<-out.Wake() // the relay of this process hears of the commit

	var topic, kind, data string
	const row = `select topic, type, convert_from(payload, 'UTF8') from outbox`
	err = db.SQL().QueryRowContext(ctx, row).Scan(&topic, &kind, &data)
	fmt.Println(topic, kind, data, err)
	// Output: parcels.events.v1 parcel.sent.v1 {"parcel_id":"p-1"} <nil>
}

// The row is changed and told of by one statement; a second parcel of the name
// changes nothing, and so nothing is told.
func ExampleOutbox_Change() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.WithKit(t)

	ctx := context.Background()
	out, err := outbox.New(outbox.Config{Source: "/parcel-svc", Topics: event.Topics{"parcel": "parcels.events.v1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := db.SQL().ExecContext(ctx, `create table parcels (id text primary key, version bigint not null)`); err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			changed, err := out.Change(ctx, tx, []event.Event{ParcelSent{ParcelID: "p-1"}},
				`insert into parcels values ($1, 1) on conflict do nothing returning version`, "p-1")
			fmt.Println(changed, err)
			return err
		})
		if err != nil {
			return
		}
	}

	var parcels, events int
	err = db.SQL().QueryRowContext(ctx, `select (select count(*) from parcels), (select count(*) from outbox)`).Scan(&parcels, &events)
	fmt.Println(parcels, "parcel,", events, "event", err)
	// Output:
	// true <nil>
	// false <nil>
	// 1 parcel, 1 event <nil>
}
