package notification_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"pavane/internal/leaks"
	"pavane/migrations"
	"pavane/notification-svc/internal/notification"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// bundle is one test's service on a schema of its own, with a mail server.
type bundle struct {
	t       *testing.T
	db      *postgres.DB
	server  *smtpServer
	service *notification.Service
	sender  *notification.Sender
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, db: pgtest.WithKit(t, migrations.Notification()), server: startSMTP(t)}
	b.sender = b.newSender()
	b.service = notification.NewService(b.sender.Wake, nil)
	return b
}

func (b *bundle) carrier() notification.Carrier {
	b.t.Helper()
	carrier, err := notification.NewSMTP(notification.SMTPConfig{Addr: b.server.addr(), From: "Pavane <orders@pavane.example>", TLS: "auto"})
	if err != nil {
		b.t.Fatal(err)
	}
	return carrier
}

func (b *bundle) newSender() *notification.Sender { return b.measured(nil) }

func (b *bundle) measured(metrics prometheus.Registerer) *notification.Sender {
	return notification.NewMailSender(b.db, b.carrier(), slog.New(slog.NewTextHandler(io.Discard, nil)), nil, metrics)
}

// run runs the sender until the test or the returned function ends it.
func (b *bundle) run(ctx context.Context, s *notification.Sender) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	}
	b.t.Cleanup(stop)
	return stop
}

// fact applies a fact in a transaction of its own.
func (b *bundle) fact(e any) {
	b.t.Helper()
	err := b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return b.apply(ctx, tx, e) })
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) apply(ctx context.Context, tx *sqlx.Tx, e any) (err error) {
	ctx = event.WithCause(ctx, &event.Envelope{Time: happened})
	switch e := e.(type) {
	case contract.OrderConfirmed:
		_, err = b.service.Confirmed(ctx, tx, e)
	case contract.OrderCancelled:
		_, err = b.service.Cancelled(ctx, tx, e)
	case contract.PaymentCaptured:
		_, err = b.service.Captured(ctx, tx, e)
	default:
		err = errors.New("no such fact")
	}
	return err
}

// states are the mails of an order as "kind:state".
func (b *bundle) states(order string) []string {
	b.t.Helper()
	mails, err := notification.OfOrder(b.t.Context(), b.db, order)
	if err != nil {
		b.t.Fatal(err)
	}
	var all []string
	for _, m := range mails {
		all = append(all, string(m.Kind)+":"+m.State)
	}
	slices.Sort(all)
	return all
}

func (b *bundle) exec(statement string) {
	b.t.Helper()
	err := b.db.InTx(b.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// eventually waits until ok, asking often, 20 s at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

var (
	happened  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	placedFor = contract.Money{Amount: 1205, Currency: "EUR"}
	confirmed = contract.OrderConfirmed{OrderID: "o-1", CustomerID: "c-1", Email: "ann@example.test", Total: placedFor}
	captured  = contract.PaymentCaptured{OrderID: "o-1", Amount: placedFor}
	cancelled = contract.OrderCancelled{OrderID: "o-2", CustomerID: "c-1", Email: "ann@example.test", Reason: "out_of_stock", Detail: "kettle: 0 left"}
)

func TestService_FactsInEitherOrder_OneMailPerKindToTheAddress(t *testing.T) {
	t.Parallel()
	for name, facts := range map[string][]any{
		"confirmed first": {confirmed, captured},
		"captured first":  {captured, confirmed},
		"all twice":       {captured, captured, confirmed, captured, confirmed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for _, f := range facts {
				b.fact(f)
			}
			b.run(t.Context(), b.sender)
			want := []string{"confirmed:sent", "receipt:sent"}
			eventually(t, "both mails sent", func() bool { return slices.Equal(b.states("o-1"), want) })
			got := b.server.mails()
			if len(got) != 2 {
				t.Fatalf("the server got %d mails, want 2: %v", len(got), got)
			}
			for _, m := range got {
				if !strings.Contains(m.to, "ann@example.test") || !strings.Contains(m.body, "12.05 EUR") {
					t.Errorf("mail to %q says %q", m.to, m.body)
				}
			}
		})
	}
}

func TestService_CapturedBeforeConfirmed_HoldsTheReceipt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fact(captured)
	if got := b.states("o-1"); !slices.Equal(got, []string{"receipt:held"}) {
		t.Fatalf("mails %v, want the receipt held", got)
	}
}

// Two instances may handle the two facts of an order at the same time, because
// they come from two topics. Neither sees what the other has not committed.
func TestService_BothFactsAtOnce_NoReceiptIsLeftHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := make(chan struct{})
	release := make(chan struct{})
	done := make(chan error, 2)
	go func() {
		done <- b.db.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
			if err := b.apply(ctx, tx, captured); err != nil {
				return err
			}
			close(first)
			<-release
			return nil
		})
	}()
	<-first
	go func() {
		done <- b.db.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error { return b.apply(ctx, tx, confirmed) })
	}()
	eventually(t, "the second fact waits for the first", func() bool { return b.waiting() > 0 || len(done) > 0 })
	close(release)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if got := b.states("o-1"); !slices.Equal(got, []string{"confirmed:pending", "receipt:pending"}) {
		t.Errorf("mails %v, want both pending", got)
	}
}

func (b *bundle) waiting() (n int) {
	b.t.Helper()
	err := b.db.SQL().QueryRowContext(b.t.Context(),
		`select count(*) from pg_stat_activity where application_name = current_setting('application_name') and wait_event_type = 'Lock'`).Scan(&n)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func TestService_Cancelled_SaysWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t.Context(), b.sender)
	b.fact(cancelled)
	eventually(t, "the mail", func() bool { return len(b.server.mails()) == 1 })
	m := b.server.mails()[0]
	if !strings.Contains(m.body, "something in it is out of stock (kettle: 0 left).") {
		t.Errorf("body %q does not say why", m.body)
	}
	if m.messageID != "<o-2.cancelled@pavane.example>" {
		t.Errorf("Message-ID %q", m.messageID)
	}
}

func TestSender_TransientRefusal_SendsAgainUntilTaken(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{"greeting": "greeting", "sender": "MAIL", "recipient": "RCPT", "data": "DATA", "end of data": "."} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.server.on(func(got string, nth int) string {
				if got == command && nth == 1 {
					return "451 try again"
				}
				return ""
			})
			b.fact(cancelled)
			b.run(t.Context(), b.sender)
			eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
			if n := accepted(b.server.mails()); n != 1 {
				t.Errorf("the server took %d mails, want 1", n)
			}
		})
	}
}

func accepted(mails []received) (n int) {
	for _, m := range mails {
		if m.accepted {
			n++
		}
	}
	return n
}

func TestSender_ConnectionDropsAfterData_SendsAgainWithTheSameMessageID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server.on(func(command string, nth int) string {
		if command == "." && nth == 1 {
			return "drop"
		}
		return ""
	})
	b.fact(cancelled)
	b.run(t.Context(), b.sender)
	eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
	got := b.server.mails()
	if len(got) != 2 || got[0].messageID != got[1].messageID || got[0].messageID == "" {
		t.Errorf("want the same mail twice with one Message-ID, got %+v", got)
	}
}

// The client reports a failed reset after the server has taken the mail.
func TestSender_ConnectionDropsAfterTheServerTookIt_SendsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server.on(func(command string, _ int) string {
		if command == "RSET" {
			return "drop"
		}
		return ""
	})
	b.fact(cancelled)
	b.run(t.Context(), b.sender)
	eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
	if got := b.server.mails(); len(got) != 1 {
		t.Errorf("the server got the mail %d times, want once", len(got))
	}
}

func TestSender_OneRecipientRefusedOrDeferred_TheOthersGetTheirs(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"550 no such user", "451 come back later"} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			oneIsLeftOut(t, answer)
		})
	}
}

func oneIsLeftOut(t *testing.T, answer string) {
	b := setup(t)
	b.server.on(func(command string, nth int) string {
		if command == "RCPT" && nth != 2 { // the second is the other's
			return answer
		}
		return ""
	})
	b.fact(cancelled)
	b.fact(confirmed)
	b.run(t.Context(), b.sender)
	eventually(t, "the other mail sent", func() bool { return slices.Equal(b.states("o-1"), []string{"confirmed:sent"}) })
	mails, err := notification.OfOrder(t.Context(), b.db, "o-2")
	if err != nil {
		t.Fatal(err)
	}
	if m := mails[0]; m.State != "pending" || !strings.Contains(m.LastError, answer[len("550 "):]) {
		t.Errorf("the refused mail is %s with error %q, want pending with the server's words", m.State, m.LastError)
	}
	if n := b.server.connections(); n != 1 {
		t.Errorf("%d connections, want both mails over one", n)
	}
}

// An address that does not exist must not look like a mail server that is away.
func TestSender_MailIsRefusedForGood_CountsApartUntilItIsTaken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server.on(func(command string, nth int) string {
		if command == "RCPT" && nth == 1 {
			return "550 no such user"
		}
		return ""
	})
	b.fact(cancelled)
	metrics := prometheus.NewRegistry()
	b.run(t.Context(), b.measured(metrics))
	measure := gauges(t, metrics)
	eventually(t, "the mail counts as refused", func() bool { return measure("pavane_mails_refused") == 1 })
	if age, n := measure("pavane_mails_oldest_seconds"), measure("pavane_mails_pending"); age != 0 || n != 1 {
		t.Errorf("of %v mails the oldest waits since %v s, want 1 that is refused and 0 s", n, age)
	}
	b.exec(`update mails set next_at = clock_timestamp()`)
	eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
	if n := measure("pavane_mails_refused"); n != 0 {
		t.Errorf("%v mails are refused after all are sent", n)
	}
}

// gauges reads metrics by name.
func gauges(t *testing.T, metrics prometheus.Gatherer) func(name string) float64 {
	return func(name string) float64 {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
}

// A crash between the server's 250 and the commit is the one case in which a
// mail goes out twice. The claim of the dead sender runs out and another sends.
func TestSender_CrashBetweenTakenAndNoted_SendsAgainWithTheSameMessageID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fact(cancelled)
	set, err := failpoint.Parse("message.after_send=10m")
	if err != nil {
		t.Fatal(err)
	}
	stop := b.run(failpoint.With(t.Context(), set), b.sender)
	eventually(t, "the server has the mail", func() bool { return accepted(b.server.mails()) == 1 })
	if got := b.states("o-2"); !slices.Equal(got, []string{"cancelled:pending"}) {
		t.Fatalf("mails %v: noted before the failpoint", got)
	}
	b.exec(`update mails set next_at = clock_timestamp()`) // the claim's time is over
	b.run(t.Context(), b.newSender())
	eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
	got := b.server.mails()
	if len(got) != 2 || got[0].messageID != got[1].messageID {
		t.Errorf("want two mails with one Message-ID, got %+v", got)
	}
	stop() // the late first sender changes nothing
	if got := b.states("o-2"); !slices.Equal(got, []string{"cancelled:sent"}) {
		t.Errorf("mails %v after the late sender, want sent", got)
	}
}

// A mail that was taken up or put off while the database's clock was an hour ahead.
func TestSender_ClockHasGoneBack_MailIsSentAllTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fact(cancelled)
	b.exec(`update mails set next_at = clock_timestamp() + interval '1 hour'`)
	b.run(t.Context(), b.sender)
	eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
}

// heldUp is a carrier whose sender has claimed mails and gets no further.
type heldUp struct {
	notification.Carrier
	claimed, free chan struct{}
	once          sync.Once
}

// Open waits until the carrier is free.
func (h *heldUp) Open(ctx context.Context) (notification.Connection, error) {
	h.once.Do(func() { close(h.claimed) })
	<-h.free
	return h.Carrier.Open(ctx)
}

func TestSender_AnotherIsSending_LeavesItsMailsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const claim = 20 // mails that a sender takes up at once
	place := func(id string) {
		e := cancelled
		e.OrderID = id
		b.fact(e)
	}
	for i := range claim {
		place("o-" + time.Duration(i).String())
	}
	first := &heldUp{Carrier: b.carrier(), claimed: make(chan struct{}), free: make(chan struct{})}
	b.run(t.Context(), notification.NewMailSender(b.db, first, slog.New(slog.DiscardHandler), nil, nil))
	<-first.claimed
	// Mails go by their age: who sends this one would have sent those before.
	place("o-last")
	b.run(t.Context(), b.newSender())
	eventually(t, "the last mail sent", func() bool { return slices.Equal(b.states("o-last"), []string{"cancelled:sent"}) })
	if n := len(b.server.mails()); n != 1 {
		t.Errorf("%d mails came, want the last one alone", n)
	}
	close(first.free)
	eventually(t, "all mails taken", func() bool { return len(b.server.mails()) >= claim+1 })
}

func TestSender_ManySenders_EachMailOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const orders = 120
	for i := range orders {
		e := cancelled
		e.OrderID = "o-" + time.Duration(i).String()
		b.fact(e)
	}
	for range 3 {
		b.run(t.Context(), b.newSender())
	}
	eventually(t, "all mails taken", func() bool { return len(b.server.mails()) >= orders })
	seen := map[string]int{}
	for _, m := range b.server.mails() {
		seen[m.messageID]++
	}
	if len(seen) != orders || len(b.server.mails()) != orders {
		t.Errorf("%d mails with %d Message-IDs, want %d of each", len(b.server.mails()), len(seen), orders)
	}
}

func TestSender_ServerDownForAWhile_KeepsTheMailAndSendsWhenItIsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server.on(func(command string, nth int) string {
		if command == "greeting" && nth <= 2 {
			return "421 closing"
		}
		return ""
	})
	b.fact(cancelled)
	b.run(t.Context(), b.sender)
	eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
	if n := accepted(b.server.mails()); n != 1 {
		t.Errorf("the server took %d mails, want 1", n)
	}
}

func TestSender_Stop_LeavesNothingRunningAndNoClaim(t *testing.T) {
	b := setup(t)
	ignore := goleak.IgnoreCurrent()
	b.fact(cancelled)
	stop := b.run(t.Context(), b.sender)
	eventually(t, "the mail sent", func() bool { return slices.Equal(b.states("o-2"), []string{"cancelled:sent"}) })
	stop()
	leaks.None(t, ignore)
}

func TestSMTPConfig_Wrong_NamesTheVariable(t *testing.T) {
	t.Parallel()
	good := notification.SMTPConfig{Addr: "mail.example:587", From: "a@b.example", TLS: "auto"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for variable, spoil := range map[string]func(*notification.SMTPConfig){
		"PAVANE_SMTP_ADDR": func(c *notification.SMTPConfig) { c.Addr = "mail.example" },
		"PAVANE_SMTP_FROM": func(c *notification.SMTPConfig) { c.From = "nobody" },
		"PAVANE_SMTP_TLS":  func(c *notification.SMTPConfig) { c.TLS = "maybe" },
		"PAVANE_SMTP_USER": func(c *notification.SMTPConfig) { c.User, c.TLS = "ann", "none" },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("Validate(%+v) = %v, want an error naming %s", bad, err, variable)
		}
	}
}
