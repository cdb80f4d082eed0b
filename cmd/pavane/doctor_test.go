package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/cmd/pavane/internal/doctor"
	"pavane/internal/devstack"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/migrate"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
)

// written is what findings look like, and how many are bad.
func written(t *testing.T, found []doctor.Finding) (text string, bad int) {
	t.Helper()
	var out strings.Builder
	bad, err := doctor.Write(&out, "", found)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), bad
}

func wantBad(t *testing.T, found []doctor.Finding, n int, parts ...string) {
	t.Helper()
	text, bad := written(t, found)
	if bad != n {
		t.Errorf("%d findings are bad, want %d:\n%s", bad, n, text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not said in\n%s", part, text)
		}
	}
}

func TestExamineDatabases_SaysWhatIsMissingAndWhatWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	all := []place{{"order-svc", "orders", nowhere + "orders"}, {"payment-svc", "payments", url}}
	look := func() []doctor.Finding { return examineDatabases(t.Context(), all) }
	wantBad(t, look(), 2, "not reachable", "run the service with -migrate")
	db := pgtest.Open(t, url)
	for _, set := range migrationsOf("payment-svc") {
		if err := migrate.Up(t.Context(), db.SQL(), set.Files, set.Table); err != nil {
			t.Fatal(err)
		}
	}
	wantBad(t, look(), 1, "0 events wait, nothing is parked; Postgres 1")
	o, err := outbox.New(outbox.Config{Source: "/payment-svc", Topics: event.Topics{"payment": "payments"}})
	if err != nil {
		t.Fatal(err)
	}
	err = db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := o.Append(ctx, tx, event.Number(1, contract.PaymentVoided{OrderID: "o-1"})...); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `update outbox set created_at = created_at - interval '70 s'`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `insert into parked (source, key, sequence, topic, partition, record_offset, type, headers, payload, reason, cause)
values ('/order-svc', 'o-2', 5, 'orders', 1, 7, 'order.confirmed.v1', '', '', 'number 4 is missing', 'gap')`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantBad(t, look(), 3, "1 events wait to be published, the oldest for 1m1", "1 keys are parked (gap)")
}

// TestAskServer_ClockIsMoved_SaysByHowMuch is skipped where libfaketime is missing,
// but not in CI, which installs it.
func TestAskServer_ClockIsMoved_SaysByHowMuch(t *testing.T) {
	t.Parallel()
	if _, err := devstack.Faketime(); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	p, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{NoSync: true, MovableClock: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	db := pgtest.Open(t, p.URL("postgres"))
	for _, by := range []time.Duration{0, -time.Hour} {
		if err := p.MoveClock(t.Context(), by); err != nil {
			t.Fatal(err)
		}
		if _, ahead, err := askServer(t.Context(), db); err != nil || (ahead-by).Abs() > time.Minute {
			t.Errorf("moved by %s the clock is %s ahead (%v)", by, ahead, err)
		}
	}
	wantBad(t, clockOf("order-svc", -time.Hour), 1, "order's data", "is 1h0m0s behind this machine's")
	wantBad(t, clockOf("order-svc", 11*time.Second), 1, "is 11s ahead of this machine's")
	wantBad(t, clockOf("order-svc", 9*time.Second), 0)
}

func TestExamineKafka_TopicsMissingOrUnlike_AreNamed(t *testing.T) {
	t.Parallel()
	to := target{kafka: strings.Split(brokertest.Start(t), ","), namespace: "doctor."}
	look := func() []doctor.Finding { return []doctor.Finding{to.examineKafka(t.Context())} }
	wantBad(t, look(), 1, "doctor.orders.events.v1", "create the topics first")
	client, err := broker.Dial(broker.Config{Brokers: to.kafka})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	make := func(topic string, partitions int) {
		t.Helper()
		if err := client.EnsureTopics(t.Context(), []broker.Topic{{Name: to.namespace + topic, Partitions: partitions, ReplicationFactor: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	topics := contract.Topics()
	make(topics["order"], 3)
	make(topics["payment"], 3)
	make(topics["inventory"], 2)
	wantBad(t, look(), 1, "inventory.events.v1 has 2 partitions: want 3")
	to.kafka = []string{"127.0.0.1:1"}
	wantBad(t, look(), 1, "127.0.0.1:1")
}

func TestExamineGateway_NamesServicesWithoutAnInstance(t *testing.T) {
	t.Parallel()
	answer := `{"members":[{"service":"order-svc","addr":"10.0.0.1:80"},{"service":"order-svc","addr":"10.0.0.2:80"},{"service":"payment-svc","addr":"10.0.0.3:80"}]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(answer)) })) //nolint:errcheck // a test
	t.Cleanup(server.Close)
	to := target{gateway: server.URL}
	wantBad(t, to.examineGateway(t.Context()), 2, "order-svc", "10.0.0.1:80, 10.0.0.2:80", "inventory-svc", "notification-svc", "knows no instance")
	answer = "hello"
	wantBad(t, to.examineGateway(t.Context()), 1, "--gateway")
	to.gateway = "http://127.0.0.1:1"
	wantBad(t, to.examineGateway(t.Context()), 1, "refused")
}

func TestDoctor_DirTellsOfAStackElsewhere_LooksAtThatAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := `{"gateway":"http://127.0.0.1:1","postgres":"` + nowhere + `","kafka":["127.0.0.1:1"]}`
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	c := root()
	var out strings.Builder
	c.SetOut(&out)
	c.SetArgs([]string{"doctor", "--dir", dir})
	err := c.ExecuteContext(t.Context())
	if !errors.Is(err, errVerdict) || strings.Contains(out.String(), "this machine") || !strings.Contains(out.String(), "the stack that "+dir) || !strings.Contains(out.String(), "order's data") {
		t.Errorf("%v:\n%s\nwant that gateway, Kafka and databases of the stack are away", err, &out)
	}
}
