package service_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing/fstest"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/brokertest"
	"pavane/shared/event"
	"pavane/shared/pgtest"
	"pavane/shared/react"
	"pavane/shared/service"
	"pavane/shared/telemetry"
)

// ParcelSent says that a parcel left the house.
type ParcelSent struct {
	ParcelID string `json:"parcel_id"`
}

func (ParcelSent) Kind() string  { return "parcel.sent.v1" }
func (e ParcelSent) Key() string { return e.ParcelID }

// A service that sends one parcel, hears of it, and ends.
func ExampleOpen() {
	t, end := pgtest.ForExample()
	defer end()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cfg := service.Config{
		Database: pgtest.URL(t), Brokers: strings.Split(brokertest.Start(t), ","), Namespace: strings.ToLower(rand.Text()) + ".", CreateTopics: true,
		Partitions: 3, ReplicationFactor: 1, HTTPAddr: "127.0.0.1:0", Migrate: true, Relay: true,
		Registry: service.RegistryConfig{Static: "parcel-svc=127.0.0.1:8080"},
		Log:      telemetry.LogConfig{Level: 12}, // nothing
	}
	svc, err := service.Open(ctx, cfg, service.Spec{
		Name: "parcel-svc", Version: "1.0.0", Topics: event.Topics{"parcel": "parcels.events.v1"},
		Migrations: fstest.MapFS{"00001_parcels.sql": {Data: []byte("-- +goose Up\ncreate table parcels (parcel_id text not null);\n")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	heard := prometheus.NewCounter(prometheus.CounterOpts{Name: "parcels_heard_of_total", Help: "Parcels heard of."})
	svc.Metrics().MustRegister(heard)
	svc.React(
		react.Origin("the start of the service", ParcelSent{}),
		react.On(func(ctx context.Context, tx *sqlx.Tx, e ParcelSent) ([]event.Numbered, error) {
			_, err := tx.ExecContext(ctx, `insert into parcels (parcel_id) values ($1)`, e.ParcelID)
			fmt.Println("heard of", e.ParcelID)
			heard.Inc()
			stop()
			return nil, err
		}),
	)
	svc.Go("sender", func(ctx context.Context) error {
		return svc.DB().InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			return svc.Outbox().Append(ctx, tx, event.Number(1, ParcelSent{ParcelID: "p-1"})...)
		})
	})
	fmt.Println(svc.Run(ctx))
	// Output:
	// heard of p-1
	// <nil>
}

// Main is all that a service's func main calls. Asked with -describe, the
// service prints its table of reactions, without any connection.
func ExampleMain() {
	os.Args = []string{"parcel-svc", "-describe"}
	service.Main(func(ctx context.Context) error {
		svc, err := service.Open(ctx, service.Config{}, service.Spec{
			Name: "parcel-svc", Version: "1.0.0", Topics: event.Topics{"parcel": "parcels.events.v1"},
		})
		if err != nil {
			return err
		}
		svc.React(react.Origin("PUT /v1/parcels/{id}", ParcelSent{}))
		return svc.Run(ctx)
	})
	// Output:
	// {
	//   "service": "parcel-svc",
	//   "version": "1.0.0",
	//   "reactions": [
	//     {
	//       "origin": "PUT /v1/parcels/{id}",
	//       "emits": [
	//         "parcel.sent.v1"
	//       ]
	//     }
	//   ],
	//   "events": [
	//     {
	//       "kind": "parcel.sent.v1"
	//     }
	//   ]
	// }
}
