package payment_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"pavane/internal/await"
	"pavane/internal/providersim"
	"pavane/migrations"
	"pavane/payment-svc/internal/payment"
	"pavane/payment-svc/internal/provider"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/failpoint"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

// callTime is how long a hasty client waits for the provider; lateTime is how long
// the provider takes for what is late, and until it gives up what is stalled.
const (
	callTime = 60 * time.Millisecond
	lateTime = 90 * time.Millisecond
	// claimTime is what the charger takes the client's patience for: claims outlast
	// every test, unless it lets time pass.
	claimTime = 10 * time.Second
)

// shop is a payment service with a charger, and the provider that it asks.
type shop struct {
	bench
	charger  *payment.Charger
	provider *providersim.Server
	ledger   *providersim.Ledger
	url      string
	told     *told
}

// told is an outbox that keeps what was committed.
type told struct {
	mu     sync.Mutex
	kinds  map[string]map[int64]string // by key and number: who commits first may say so last
	causes map[string]event.Envelope   // by kind, of all keys
}

func (o *told) Append(ctx context.Context, _ *sqlx.Tx, events ...event.Numbered) error {
	postgres.OnCommit(ctx, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, e := range events {
			at := e.Event.Key()
			if e.Cause != nil {
				o.causes[e.Event.Kind()] = *e.Cause
			}
			if o.kinds[at] == nil {
				o.kinds[at] = map[int64]string{}
			}
			o.kinds[at][e.Sequence] += e.Event.Kind()
		}
	})
	return nil
}

func (o *told) of(order string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var told []string
	for _, n := range slices.Sorted(maps.Keys(o.kinds[order])) {
		told = append(told, o.kinds[order][n])
	}
	return told
}

func (o *told) cause(kind string) event.Envelope {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.causes[kind]
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{told: &told{kinds: map[string]map[int64]string{}, causes: map[string]event.Envelope{}}}
	var err error
	if s.ledger, err = providersim.OpenLedger(filepath.Join(t.TempDir(), "ledger")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ledger.Close() }) //nolint:errcheck // the test is over
	s.provider = providersim.NewServer(s.ledger, "", quiet())
	s.provider.SetFaults(slowness())
	server := httptest.NewServer(s.provider)
	t.Cleanup(server.Close)
	s.url = server.URL
	methods := map[string]payment.Method{"wallet": payment.Wallet{}}
	db := pgtest.WithKit(t, migrations.Payment())
	s.bench = bench{t: t, db: db, s: payment.New(db, methods), again: new(atomic.Int64)}
	s.charger = s.newCharger(s.patient(t))
	methods["card"] = payment.Card{Wake: func() { s.charger.Wake() }}
	return s
}

// slowness is how slow the provider is where it is.
func slowness() providersim.Faults {
	return providersim.Faults{LateMS: int(lateTime.Milliseconds()), StallMS: int(lateTime.Milliseconds())}
}

// patient is a client for which no answer is late, however busy the machine is.
func (s *shop) patient(t *testing.T) *provider.Client {
	c := provider.New(provider.Config{URL: s.url, Timeout: waitLimit})
	t.Cleanup(c.Close)
	return c
}

// hasty gives the first request of each kind about a charge up before the provider
// has answered what is late. It waits for those after it: on a slow machine, where
// each answer is late, no charge would ever come to its end.
type hasty struct {
	payment.Provider
	mu   sync.Mutex
	made map[string]bool
}

func (s *shop) hasty(t *testing.T) *hasty {
	return &hasty{Provider: s.patient(t), made: map[string]bool{}}
}

func (h *hasty) limited(ctx context.Context, request string) (context.Context, context.CancelFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.made[request] {
		return context.WithCancel(ctx)
	}
	h.made[request] = true
	return context.WithTimeout(ctx, callTime)
}

func (h *hasty) Authorize(ctx context.Context, in provider.Intent) (provider.Charge, error) {
	ctx, cancel := h.limited(ctx, "authorize "+in.Key)
	defer cancel()
	return h.Provider.Authorize(ctx, in)
}

func (h *hasty) Capture(ctx context.Context, key string) (provider.Charge, error) {
	ctx, cancel := h.limited(ctx, "capture "+key)
	defer cancel()
	return h.Provider.Capture(ctx, key)
}

func (h *hasty) Void(ctx context.Context, key string) (provider.Charge, error) {
	ctx, cancel := h.limited(ctx, "void "+key)
	defer cancel()
	return h.Provider.Void(ctx, key)
}

func (s *shop) newCharger(p payment.Provider) *payment.Charger {
	return payment.NewCharger(payment.ChargerConfig{
		DB: s.db, Service: s.s, Outbox: s.told, Provider: p, Timeout: claimTime, Logger: quiet(),
		Alone: func(context.Context, *sqlx.Tx) error { return nil },
	})
}

// run runs the charger until the returned function is called, with failpoints.
func (s *shop) run(points string) (stop func()) {
	s.t.Helper()
	set, err := failpoint.Parse(points)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(failpoint.With(s.t.Context(), set))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.charger.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

func byCard(order, token string) contract.OrderPlaced {
	o := placed(order, "c", 300)
	o.PaymentMethod, o.CardToken = "card", token
	return o
}

// asked places an order and reserves its items.
func (s *shop) asked(order, token string) contract.OrderPlaced {
	s.t.Helper()
	o := byCard(order, token)
	s.must(payment.Placed, o)
	s.must(payment.Reserved, o)
	return o
}

// comes waits until the payment is in a state.
func (s *shop) comes(order string, states ...payment.State) {
	s.t.Helper()
	await.True(s.t, waitLimit, fmt.Sprintf("payment of %s is %v", order, states), func() bool {
		s.hurry()
		return slices.Contains(states, s.state(order))
	})
}

// hurry lets the time pass for which a claim holds, and the pause after a failure.
func (s *shop) hurry() {
	s.t.Helper()
	s.exec(`update charges set next_at = clock_timestamp() where due and next_at > clock_timestamp() + interval '150 milliseconds'`)
	s.charger.Wake()
}

func (s *shop) exec(statement string, args ...any) {
	s.t.Helper()
	err := s.db.InTx(s.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// rests waits until there is nothing more to be asked for.
func (s *shop) rests() {
	s.t.Helper()
	await.True(s.t, waitLimit, "nothing is due at the provider", func() bool {
		s.hurry()
		var due int
		if err := s.db.Get(s.t.Context(), &due, `select count(*) from charges where due`); err != nil {
			s.t.Fatal(err)
		}
		return due == 0
	})
}

// judge holds the provider's ledger against what became of the orders: captured
// once, or nothing held and nothing taken.
func (s *shop) judge(confirmed map[string]bool) {
	s.t.Helper()
	captures := map[string]int{}
	for _, c := range s.ledger.Changes(0, 1<<20) {
		captures[c.Key] = c.Captures
		if c.State == providersim.Held {
			s.t.Errorf("the provider still holds the money of %s", c.Key)
		}
		if _, known := confirmed[c.Key]; !known || c.Reference != "" && c.Reference != c.Key {
			s.t.Errorf("the provider has a charge for %q (%q), which is no order", c.Key, c.Reference)
		}
	}
	for order, yes := range confirmed {
		if want := map[bool]int{true: 1}[yes]; captures[order] != want {
			s.t.Errorf("%s (confirmed: %t) was charged %d times", order, yes, captures[order])
		}
	}
	s.sound()
}

// scripts are all tokens of the simulator that end by themselves.
func scripts() []string {
	return []string{
		"tok_ok", "tok_refuse", "tok_stall", "tok_fail", "tok_fail_after_charge", "tok_lose_answer", "tok_twice", "tok_late", "tok_garbage",
	}
}

// Every script of the provider, with the charger's process dying at every point
// of its work (a failing point loses what it would have done), and each end.
func TestCharger_EveryScriptAndCrashPoint_ChargesConfirmedOrdersOnceAndNoOther(t *testing.T) {
	t.Parallel()
	points := []string{"", "card.before_claim", "card.after_claim", "card.before_call", "card.after_call", "card.before_record", "card.after_record", "card.before_put_off", "card.after_put_off"}
	for _, point := range points {
		t.Run("point="+point, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.charger = s.newCharger(s.hasty(t))
			spec := ""
			for hit := range 6 {
				if point != "" {
					spec += fmt.Sprintf("%s=error@%d;", point, 3*hit+1)
				}
			}
			stop := s.run(spec)
			defer stop()
			confirmed := map[string]bool{}
			for _, token := range scripts() {
				for _, end := range []string{"confirm", "cancel", "cancel-early"} {
					order := token + "/" + end
					o := s.asked(order, token)
					if confirmed[order] = end == "confirm" && token != "tok_refuse"; end == "cancel-early" {
						s.must(payment.Cancelled, o)
					}
				}
			}
			for order, yes := range confirmed {
				s.comes(order, payment.StateAuthorized, payment.StateDeclined, payment.StateRefused, payment.StateVoiding, payment.StateVoided)
				switch state := s.state(order); {
				case yes && state == payment.StateAuthorized:
					s.must(payment.Confirmed, byCard(order, ""))
				case yes:
					t.Errorf("%s is %s", order, state)
				default:
					s.must(payment.Cancelled, byCard(order, ""))
				}
			}
			s.rests()
			stop()
			s.judge(confirmed)
			for order, yes := range confirmed {
				s.ended(order, yes)
			}
		})
	}
}

// ended checks what was told of a payment against what became of it.
func (s *shop) ended(order string, confirmed bool) {
	s.t.Helper()
	want := map[payment.State][]string{
		payment.StateCaptured: {"payment.authorized.v1", "payment.captured.v1"}, payment.StateVoided: {"payment.authorized.v1", "payment.voided.v1"},
		payment.StateDeclined: {"payment.declined.v1"}, payment.StateRefused: nil,
	}
	state := s.state(order)
	told, final := want[state]
	if !final || confirmed != (state == payment.StateCaptured) || !slices.Equal(told, s.told.of(order)) {
		s.t.Errorf("%s is %s and told %v", order, state, s.told.of(order))
	}
}

// The provider fails at random, the orders end at random, at random moments.
func TestCharger_RandomFaultsAndEnds_ChargesConfirmedOrdersOnceAndNoOther(t *testing.T) {
	t.Parallel()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		if runs++; runs > 12 { // each is a database and tens of calls that time out
			return
		}
		s := newShop(t)
		s.charger = s.newCharger(s.hasty(t))
		faults, percent := slowness(), rapid.IntRange(0, 25)
		faults.Seed, faults.RefusePercent = 1+rapid.Int64Range(0, 1<<40).Draw(rt, "seed"), percent.Draw(rt, "refuse")
		faults.StallPercent, faults.FailPercent, faults.FailAfterPercent = percent.Draw(rt, "stall"), percent.Draw(rt, "fail"), percent.Draw(rt, "fail after")
		faults.LosePercent, faults.TwicePercent, faults.LatePercent = percent.Draw(rt, "lose"), percent.Draw(rt, "twice"), percent.Draw(rt, "late")
		s.provider.SetFaults(faults)
		stop := s.run("")
		defer stop()
		confirmed := map[string]bool{}
		for i := range rapid.IntRange(1, 12).Draw(rt, "orders") {
			o := s.asked(fmt.Sprintf("o-%d", i), "tok_ok")
			switch confirmed[o.OrderID] = false; rapid.IntRange(0, 2).Draw(rt, "end") {
			case 0:
				s.must(payment.Cancelled, o)
			case 1:
				s.comes(o.OrderID, payment.StateAuthorized, payment.StateDeclined)
				s.must(payment.Cancelled, o)
			default:
				s.comes(o.OrderID, payment.StateAuthorized, payment.StateDeclined)
				if s.state(o.OrderID) == payment.StateAuthorized {
					s.must(payment.Confirmed, o)
					confirmed[o.OrderID] = true
				}
			}
		}
		s.provider.SetFaults(providersim.Faults{})
		s.rests()
		stop()
		s.judge(confirmed)
		for order, yes := range confirmed {
			s.ended(order, yes)
		}
	})
}

// calls counts what the provider is asked.
type calls struct {
	payment.Provider
	mu   sync.Mutex
	made []string
}

func (c *calls) note(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, call)
}

func (c *calls) Authorize(ctx context.Context, in provider.Intent) (provider.Charge, error) {
	c.note("authorize")
	return c.Provider.Authorize(ctx, in)
}

func (c *calls) Capture(ctx context.Context, key string) (provider.Charge, error) {
	c.note("capture")
	return c.Provider.Capture(ctx, key)
}

func (c *calls) Find(ctx context.Context, key string) (provider.Charge, error) {
	c.note("find")
	return c.Provider.Find(ctx, key)
}

func TestCharger_OutcomeUnknown_AsksWhatCameOfItBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	for token, want := range map[string][]string{
		"tok_ok":                {"authorize", "capture"},
		"tok_fail_after_charge": {"authorize", "find", "capture", "find"},
		"tok_lose_answer":       {"authorize", "find", "capture", "find"},
		"tok_fail":              {"authorize", "find", "authorize", "capture", "find", "capture"},
	} {
		t.Run(token, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			c := &calls{Provider: s.patient(t)}
			s.charger = s.newCharger(c)
			stop := s.run("")
			defer stop()
			is := func(want payment.State) {
				await.True(t, waitLimit, string(want), func() bool { return s.state("o-1") == want })
			}
			o := s.asked("o-1", token)
			is(payment.StateAuthorized)
			s.must(payment.Confirmed, o)
			is(payment.StateCaptured)
			stop()
			if !slices.Equal(c.made, want) {
				t.Errorf("asked %v; want %v", c.made, want)
			}
			s.judge(map[string]bool{"o-1": true})
		})
	}
}

func TestCharger_ProviderDown_CostsFewCallsAndPaymentsWait(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c := &calls{Provider: s.patient(t)}
	s.charger = s.newCharger(c)
	s.provider.SetFaults(providersim.Faults{Down: true})
	confirmed := map[string]bool{}
	for i := range 100 {
		confirmed[s.asked(fmt.Sprintf("o-%d", i), "tok_ok").OrderID] = true
	}
	stop := s.run("") // not before: a call now and then tries whether the provider is back
	defer stop()
	await.True(t, waitLimit, "the provider is left alone", func() bool { return s.room(c) == 0 })
	c.mu.Lock()
	made := len(c.made)
	c.mu.Unlock()
	if made > 40 {
		t.Errorf("%d calls were made before the provider was left alone", made)
	}
	s.provider.SetFaults(providersim.Faults{})
	for order := range confirmed {
		s.comes(order, payment.StateAuthorized)
		s.must(payment.Confirmed, byCard(order, ""))
	}
	s.rests()
	stop()
	s.judge(confirmed)
}

func (s *shop) room(p payment.Provider) int { return p.Room(16) }

func TestCharger_SeveralInstances_ChargeEachOrderOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.charger = s.newCharger(s.hasty(t))
	second := *s
	second.charger = s.newCharger(s.hasty(t))
	for _, stop := range []func(){s.run(""), second.run("")} {
		defer stop()
	}
	confirmed := map[string]bool{}
	for i, token := range slices.Repeat(scripts(), 4) {
		confirmed[s.asked(fmt.Sprintf("o-%d", i), token).OrderID] = token != "tok_refuse"
	}
	for _, order := range slices.Sorted(maps.Keys(confirmed)) {
		s.comes(order, payment.StateAuthorized, payment.StateDeclined)
		if confirmed[order] {
			s.must(payment.Confirmed, byCard(order, ""))
		}
	}
	s.rests()
	s.judge(confirmed)
}

func TestVoid_IntentThatNobodyTookUp_NeverReachesTheProvider(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	o := s.asked("o-1", "tok_ok")
	s.must(payment.Cancelled, o)
	stop := s.run("")
	defer stop()
	s.rests()
	if got := s.ledger.Changes(0, 10); len(got) != 0 {
		t.Errorf("the provider has %+v", got)
	}
	if s.state("o-1") != payment.StateRefused {
		t.Errorf("state %s", s.state("o-1"))
	}
}

func TestAuthorize_NoProviderOrNoToken_IsDeclinedWithItsReason(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	o := byCard("o-1", "")
	s.must(payment.Placed, o)
	events := s.must(payment.Reserved, o, "payment.declined.v1")
	if got, _ := events[0].Event.(contract.PaymentDeclined); got.Reason != "the order names no card" {
		t.Errorf("reason %q", got.Reason)
	}
	none := bench{t: t, db: s.db, s: payment.New(s.db, map[string]payment.Method{"card": payment.Card{}}), again: new(atomic.Int64)}
	o = byCard("o-2", "tok_ok")
	none.must(payment.Placed, o)
	events = none.must(payment.Reserved, o, "payment.declined.v1")
	if got, _ := events[0].Event.(contract.PaymentDeclined); got.Reason != "no cards are taken here: there is no payment provider" {
		t.Errorf("reason %q", got.Reason)
	}
}

// A hold can come after its void where a provider forgets voids of keys that it
// has not seen. The comparison of the ledgers finds it.
func TestReconcile_HoldAfterItsVoid_IsVoidedAndCounted(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	o := s.asked("o-1", "tok_ok")
	s.must(payment.Cancelled, o) // before anybody took it up: voided, as far as is known here
	if _, err := s.ledger.Hold("o-1:authorize", providersim.Intent{Key: "o-1", Reference: "o-1", Token: "tok_ok", Amount: 300, Currency: "EUR"}, ""); err != nil {
		t.Fatal(err)
	}
	stop := s.run("")
	defer stop()
	s.reconciles(1)
	s.rests()
	s.judge(map[string]bool{"o-1": false})
	s.reconciles(0)
}

// A charge that was taken up or put off while the database's clock was an hour ahead.
func TestCharger_ClockHasGoneBack_ChargeIsTakenUpAllTheSame(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.asked("o-1", "tok_ok")
	s.exec(`update charges set next_at = clock_timestamp() + interval '1 hour'`)
	stop := s.run("")
	defer stop()
	await.True(t, waitLimit, "the charge is taken up", func() bool { return s.state("o-1") == payment.StateAuthorized })
}

// What the provider's answers come to is told when the events that asked for it
// have long been handled.
func TestCharger_EventOfAnAnswer_NamesTheEventThatMadeTheIntent(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	by := func(id string, f payment.Fact, o contract.OrderPlaced) {
		t.Helper()
		ctx := event.WithCause(t.Context(), &event.Envelope{ID: id, CorrelationID: "saga-" + o.OrderID, TraceParent: "trace-" + id})
		if _, err := s.tellIn(ctx, f, o); err != nil {
			t.Fatal(err)
		}
	}
	stop := s.run("")
	defer stop()
	taken, back, refused := byCard("o-1", "tok_ok"), byCard("o-2", "tok_ok"), byCard("o-3", "tok_refuse")
	for _, o := range []contract.OrderPlaced{taken, back, refused} {
		by("placed-"+o.OrderID, payment.Placed, o)
		by("reserved-"+o.OrderID, payment.Reserved, o)
	}
	s.comes("o-1", payment.StateAuthorized)
	s.comes("o-2", payment.StateAuthorized)
	s.comes("o-3", payment.StateDeclined)
	by("confirmed", payment.Confirmed, taken)
	by("cancelled", payment.Cancelled, back)
	s.comes("o-1", payment.StateCaptured)
	s.comes("o-2", payment.StateVoided)
	stop() // then all is told
	for kind, want := range map[string][2]string{
		"payment.captured.v1": {"confirmed", "saga-o-1"}, "payment.voided.v1": {"cancelled", "saga-o-2"}, "payment.declined.v1": {"reserved-o-3", "saga-o-3"},
	} {
		if got := s.told.cause(kind); got.ID != want[0] || got.CorrelationID != want[1] || got.TraceParent != "trace-"+want[0] {
			t.Errorf("%s names %+v as its cause, want %v", kind, got, want)
		}
	}
	if got := s.told.cause("payment.authorized.v1").ID; got != "reserved-o-1" && got != "reserved-o-2" {
		t.Errorf("payment.authorized.v1 names %q as its cause", got)
	}
}

func TestReconcile_AnswerNeverHeard_IsRecordedFromTheList(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	o := s.asked("o-1", "tok_ok")
	s.exec(`update charges set sent = true, claims = 1, next_at = clock_timestamp() + interval '30 seconds'`) // its charger died
	if _, err := s.ledger.Hold("o-1:authorize", providersim.Intent{Key: "o-1", Reference: "o-1", Token: "tok_ok", Amount: 300, Currency: "EUR"}, ""); err != nil {
		t.Fatal(err)
	}
	s.reconciles(0)
	if s.state("o-1") != payment.StateAuthorized || !slices.Equal(s.told.of("o-1"), []string{"payment.authorized.v1"}) {
		t.Errorf("state %s, told %v", s.state("o-1"), s.told.of("o-1"))
	}
	s.must(payment.Confirmed, o)
	stop := s.run("")
	defer stop()
	s.comes("o-1", payment.StateCaptured)
	s.judge(map[string]bool{"o-1": true})
}

func TestReconcile_ChargeThatNobodyAskedFor_IsCounted(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, in := range []providersim.Intent{{Key: "x", Reference: "x"}, {Key: "y-2", Reference: "y"}} {
		in.Token, in.Currency = "tok_ok", "EUR"
		if _, err := s.ledger.Hold(in.Key, in, ""); err != nil {
			t.Fatal(err)
		}
	}
	s.reconciles(2)
	s.reconciles(0) // once each
}

func (s *shop) reconciles(want int) {
	s.t.Helper()
	n, err := s.charger.ReconcileOnce(s.t.Context())
	if err != nil || n != want {
		s.t.Errorf("%d differences, %v; want %d", n, err, want)
	}
}
