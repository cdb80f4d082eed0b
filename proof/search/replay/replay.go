// Package replay owns the replay of walks of proof/search on a service as it
// really is: its reactions, the kit's inbox and outbox, and Postgres. What the
// model says of each step must be what the database says then.
package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/proof/search"
	"pavane/shared/broker"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/inbox"
	"pavane/shared/outbox"
	"pavane/shared/postgres"
	"pavane/shared/react"
)

const patience = time.Minute

// Service is a service under replay. State, Stock and Wallets read its database;
// the latter two are nil in a service that has none.
type Service struct {
	Name      string // "payment-svc"
	DB        *postgres.DB
	Outbox    *outbox.Outbox
	Reactions []react.Reaction

	// Order is the order as its first event tells of it; without an id while it
	// is not placed.
	Order func(order int) contract.OrderPlaced
	// Ask makes a request, one of search.Place, Cancel and Deadline, or gives an
	// answer of the card's provider.
	Ask func(ctx context.Context, request string, order int) error

	State   func(ctx context.Context, orderID string) (string, error) // named as in the machine
	Stock   func(ctx context.Context) (map[string]search.Amount, error)
	Wallets func(ctx context.Context) (map[string]int, error)
}

// The walks meet every state that can be met; with other numbers from the same
// stream, or from another one, it takes more of them.
const (
	walks  = 24
	stream = 6
)

// Walks runs f for each walk, each a subtest named after its seed: -run /seed=7
// repeats one. Root leads to the root of the repository.
func Walks(t *testing.T, root string, f func(t *testing.T, c search.Config) Service) {
	t.Helper()
	machines, err := search.Load(os.DirFS(root))
	replay(t, machines, err, short, f)
}

// CardWalks is [Walks] with payment by card. Then Ask is told the answers of the
// provider, too, which begin with "provider.".
func CardWalks(t *testing.T, root string, f func(t *testing.T, c search.Config) Service) {
	t.Helper()
	machines, err := search.LoadCard(os.DirFS(root))
	replay(t, machines, err, covered, f)
}

func replay(t *testing.T, machines []search.Machine, err error, wallets int, f func(t *testing.T, c search.Config) Service) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for seed := uint64(1); seed <= walks; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			c, steps, err := walk(machines, seed, wallets)
			if err != nil {
				t.Fatal(err)
			}
			run(t, f(t, c), steps)
		})
	}
}

func walk(machines []search.Machine, seed uint64, wallets int) (search.Config, []search.Step, error) {
	r := rand.New(rand.NewPCG(seed, stream))
	c := config(r, wallets)
	m, err := search.New(machines, c)
	if err != nil {
		return c, nil, err
	}
	steps, err := m.Walk(60, r.IntN)
	return c, steps, err
}

// What the wallets hold, less than. A card's provider, not the model, knows what
// is on a card; there the wallets hold enough for all.
const (
	short   = 15
	covered = 1000
)

// config is three orders that are short of everything now and then.
func config(r *rand.Rand, wallets int) search.Config {
	c := search.Config{
		Stock: map[string]int{"tin": 1 + r.IntN(5), "tray": 1 + r.IntN(5)}, Wallets: map[string]int{"cust-01": wallets - short + r.IntN(short), "cust-02": wallets - short + r.IntN(short)},
		Duplicates: 4, Crashes: 4,
	}
	for range 3 {
		o := search.Order{Customer: fmt.Sprintf("cust-0%d", 1+r.IntN(2)), Price: 1 + r.IntN(12), Items: []search.Item{{SKU: "tin", Quantity: 1 + r.IntN(2)}}}
		if r.IntN(2) == 0 {
			o.Items = append(o.Items, search.Item{SKU: "tray", Quantity: 1 + r.IntN(2)})
		}
		c.Orders = append(c.Orders, o)
	}
	return c
}

// player is a service with the consumer that plays to it.
type player struct {
	Service
	ctx      context.Context
	consumer *react.Consumer
	offset   int64
	told     map[log][]string // what everybody has published so far
	heard    map[log]int      // how much of it has come here
}

// log is what a service publishes of an order.
type log struct {
	service string
	order   int
}

func run(t *testing.T, s Service, steps []search.Step) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := react.NewConsumer(react.ConsumerConfig{
		Service: s.Name, DB: s.DB, Outbox: s.Outbox, Source: noSource{}, Topics: []string{"replay"}, Partitions: 1,
		Reactions: s.Reactions, MaxAttempts: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &player{Service: s, ctx: ctx, consumer: c, told: map[log][]string{}, heard: map[log]int{}}
	for i, step := range steps {
		p.told[log{step.Service, step.Order}] = step.Told
		if step.Service != s.Name {
			continue
		}
		if err := p.play(step); err != nil {
			t.Fatalf("step %d, %s: %v", i+1, step.Move, err)
		}
		if err := p.compare(step); err != nil {
			t.Fatalf("after step %d, %s: %v\nthe way there: %v", i+1, step.Move, err, moves(steps[:i+1]))
		}
	}
}

func moves(steps []search.Step) (lines []string) {
	for _, s := range steps {
		lines = append(lines, "\n  "+s.Move.String())
	}
	return lines
}

// play does what a step says.
func (p *player) play(s search.Step) error {
	switch s.Act {
	case search.Ask:
		return p.Ask(p.ctx, s.Fact, s.Order)
	case search.Resend:
		return nil // its readers get the copy, and drop it
	case search.CrashBefore:
		return p.die(s)
	default:
		return p.deliver(s)
	}
}

// deliver brings a record, and before it those that the service has no reaction
// on: the model leaves them out, the inbox must see them.
func (p *player) deliver(s search.Step) error {
	from := log{s.Source, s.Order}
	for ; p.heard[from] < s.Number; p.heard[from]++ {
		between := s
		between.Number = p.heard[from] + 1
		between.Fact = p.told[from][p.heard[from]]
		if between.Number < s.Number {
			if err := p.send(between); err != nil {
				return err
			}
		}
	}
	return p.send(s)
}

func (p *player) send(s search.Step) error {
	rec, err := p.record(s)
	if err != nil {
		return err
	}
	p.offset++
	return p.consumer.Deliver(p.ctx, rec)
}

// record is what lies in the log. A record that comes again is another copy in
// the log, behind the first, so that the inbox must know it by its number.
func (p *player) record(s search.Step) (broker.Record, error) {
	env, err := p.envelope(s)
	return broker.Record{Topic: "replay", Offset: p.offset, Key: []byte(env.Key), Value: env.Data, Headers: env.Headers()}, err
}

func (p *player) envelope(s search.Step) (event.Envelope, error) {
	e, err := said(s.Fact, p.Order(s.Order))
	if err != nil {
		return event.Envelope{}, err
	}
	data, err := json.Marshal(e)
	return event.Envelope{
		ID: event.NewID(), Source: "/" + s.Source, Kind: e.Kind(), Key: e.Key(), Sequence: int64(s.Number), CorrelationID: e.Key(), Data: data,
	}, err
}

// errDied ends a transaction as the death of its process does.
var errDied = errors.New("died")

// die runs the handler and loses what it did.
func (p *player) die(s search.Step) error {
	env, err := p.envelope(s)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(p.Reactions, func(r react.Reaction) bool { return r.Kind == s.Fact })
	err = p.DB.InTx(p.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		events, err := p.Reactions[i].Handle(ctx, tx, env)
		if err != nil {
			return err
		}
		if err := p.Outbox.Append(ctx, tx, events...); err != nil {
			return err
		}
		return errDied
	})
	if !errors.Is(err, errDied) {
		return fmt.Errorf("the handler: %w", err)
	}
	return nil
}

// compare holds the database against what the model says of it.
func (p *player) compare(s search.Step) error {
	parked, err := inbox.List(p.ctx, p.DB, 10)
	if err != nil {
		return err
	}
	if len(parked) > 0 {
		return fmt.Errorf("it is parked: %+v", parked[0])
	}
	id := p.Order(s.Order).OrderID
	state, err := p.State(p.ctx, id)
	if err := differ("the order", state, s.State, err, state == s.State); err != nil {
		return err
	}
	published, err := p.published(id)
	if err := differ("the outbox", published, s.Told, err, slices.Equal(published, s.Told)); err != nil {
		return err
	}
	if p.Stock != nil {
		stock, err := p.Stock(p.ctx)
		if err := differ("the stock", stock, s.Stock, err, maps.Equal(stock, s.Stock)); err != nil {
			return err
		}
	}
	if p.Wallets != nil {
		wallets, err := p.Wallets(p.ctx)
		return differ("what the wallets hold", wallets, s.Wallets, err, maps.Equal(wallets, s.Wallets))
	}
	return nil
}

func differ(what string, have, want any, err error, same bool) error {
	if err == nil && !same {
		err = fmt.Errorf("%s is %v, the model says %v", what, have, want)
	}
	return err
}

// published returns the kinds in the outbox for an order, whose numbers must be
// 1, 2, 3 …
func (p *player) published(key string) ([]string, error) {
	var rows []struct {
		Kind     string `db:"type"`
		Sequence int    `db:"sequence"`
	}
	err := p.DB.Read(p.ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, `select o.type, o.sequence from outbox o where o.key = $1 order by o.id`, key)
	})
	var kinds []string
	for i, r := range rows {
		if r.Sequence != i+1 {
			return nil, fmt.Errorf("event %d in the outbox has the number %d", i+1, r.Sequence)
		}
		kinds = append(kinds, r.Kind)
	}
	return kinds, err
}

// said is the event of a kind about an order.
func said(kind string, o contract.OrderPlaced) (event.Event, error) {
	id := o.OrderID
	for _, e := range []event.Event{
		o,
		contract.OrderConfirmed{OrderID: id, CustomerID: o.CustomerID, Email: o.Email, Total: o.Total},
		contract.OrderCancelled{OrderID: id, CustomerID: o.CustomerID, Email: o.Email, Reason: "customer"},
		contract.InventoryReserved{OrderID: id},
		contract.InventoryRejected{OrderID: id, Reason: "short"},
		contract.InventoryShipped{OrderID: id},
		contract.InventoryReleased{OrderID: id},
		contract.PaymentAuthorized{OrderID: id, Amount: o.Total},
		contract.PaymentDeclined{OrderID: id, Reason: "short"},
		contract.PaymentCaptured{OrderID: id, Amount: o.Total},
		contract.PaymentVoided{OrderID: id, Amount: o.Total},
	} {
		if e.Kind() == kind {
			return e, nil
		}
	}
	return nil, fmt.Errorf("no event %s", kind)
}

// noSource is for a consumer that is only given records by hand.
type noSource struct{}

func (noSource) Group(context.Context, broker.GroupConfig, func(context.Context, *broker.Assignment) error) error {
	return nil
}

func (noSource) Fetch(context.Context, []broker.Position, time.Duration, int) (broker.Fetched, error) {
	return broker.Fetched{}, nil
}

func (noSource) Offsets(context.Context, ...string) (map[string][]broker.Range, error) {
	return nil, nil
}
