// Package gateway owns the public HTTP surface: it finds the services through
// the registry, sends each request to one that lives, joins what several know,
// and streams the events of the log.
//
// It holds no state of its own. Whatever it answers can be asked again of any
// other gateway.
package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/gateway-svc/internal/access"
	"pavane/gateway-svc/internal/page"
	"pavane/shared/event"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
	"pavane/shared/registry"
)

// The services behind the gateway.
const (
	orderSvc        = "order-svc"
	paymentSvc      = "payment-svc"
	inventorySvc    = "inventory-svc"
	notificationSvc = "notification-svc"
)

// storytellers are the services that hold a part of an order's story.
func storytellers() []string {
	return []string{orderSvc, paymentSvc, inventorySvc, notificationSvc}
}

// maxBody is the size in bytes from which on a request body is refused. The
// largest order has 100 lines of less than 150 bytes.
const maxBody = 64 << 10

// Config is what a gateway works with.
type Config struct {
	Registry registry.Registry // where the services are
	Log      Log               // the events, for the streams
	Topics   event.Topics      // whose topics the streams read
	Logger   *slog.Logger

	// Stopping is closed when the process begins to stop: requests that wait for
	// an order are then answered with what is known. Nil: never.
	Stopping <-chan struct{}
	// AsyncAPI is served at /asyncapi.json; nil: there is no such route.
	AsyncAPI []byte
	// Saga is the map of the saga that the page draws; nil: it draws none.
	Saga []byte
	// OperatorToken is what an operator must show who has no scope for it; empty:
	// nobody is one by a token of this kind.
	OperatorToken string
	// Access says who may call; nil: everybody.
	Access *access.Access
	// Keys signs the calls to the services; nil: they are not signed.
	Keys *identity.Keys
	// Networks are where services may be; empty: anywhere.
	Networks []netip.Prefix
	// BreakURL is where operators have things broken, in the demo; empty: there is
	// no such route.
	BreakURL string
	// Heartbeat is the pause after which a silent stream sends a comment, so that
	// nobody on the way takes it for dead; 0 means 15 s.
	Heartbeat time.Duration
	// Buffer is how many events a client of a stream may lag behind; 0 means 512.
	Buffer int
}

// Gateway answers the requests.
type Gateway struct {
	config   Config
	server   *httpapi.Server // set by Register
	upstream *upstream
	tail     *tail
	atClose  []func()
}

// New returns a gateway. Close ends what it started.
func New(c Config) *Gateway {
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Buffer == 0 {
		c.Buffer = 512
	}
	if c.Access == nil {
		c.Access = openAccess(c)
	}
	topics := make([]string, 0, len(c.Topics))
	for _, topic := range c.Topics {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	return &Gateway{config: c, upstream: newUpstream(c), tail: newTail(c.Log, topics, c.Buffer, c.Logger)}
}

// Close ends the reading of the log and idle connections to the services. The
// HTTP server must have stopped.
func (g *Gateway) Close() {
	g.tail.close()
	g.upstream.client.CloseIdleConnections()
	for _, f := range g.atClose {
		f()
	}
}

// Register binds all routes, behind the access: it holds for the streams as well,
// which are no huma operations.
func (g *Gateway) Register(s *httpapi.Server) {
	g.registerAccess(s)
	g.registerOrders(s)
	g.registerViews(s)
	g.registerParked(s)
	g.registerBreak(s)
	g.registerStreams(s)
	pages := page.Handler(g.config.Saga)
	s.Handle("GET /{$}", pages)
	s.Handle("GET /docs", pages)
	s.Handle("GET /page/", pages)
	if g.config.AsyncAPI != nil {
		s.Handle("GET /asyncapi.json", document("application/json", g.config.AsyncAPI))
	}
}

func (g *Gateway) registerOrders(s *httpapi.Server) {
	httpapi.Register(s, g.customers(huma.Operation{
		OperationID: "place-order", Method: http.MethodPost, Path: "/v1/orders", DefaultStatus: http.StatusAccepted,
		MaxBodyBytes: maxBody, Summary: "Place an order",
		Description: "With `Prefer: wait=N` the answer waits up to N seconds (1 to 30) for the decision: 201 when the order is " +
			"confirmed, 409 with the reason when it is cancelled. Undecided by then, or without Prefer, it is 202: look at " +
			"Location after Retry-After. With an Idempotency-Key the request may be sent again within 24 hours and answers for the same order.",
		Errors:    []int{422, 502, 503},
		Responses: placeResponses(s.API().OpenAPI().Components.Schemas),
	}), g.place)
	httpapi.Register(s, g.customers(huma.Operation{
		OperationID: "cancel-order", Method: http.MethodPost, Path: "/v1/orders/{id}/cancel", MaxBodyBytes: maxBody,
		Summary:     "Cancel an order",
		Description: "An order that is cancelled already is answered as it is. A confirmed one is a 409.",
		Errors:      []int{404, 409, 502, 503},
	}), g.cancel)
	httpapi.Register(s, g.customers(huma.Operation{
		OperationID: "get-order", Method: http.MethodGet, Path: "/v1/orders/{id}", Summary: "Show an order",
		Description: "Its ETag is the order's version. `view=full` asks payment, inventory and notification too and names " +
			"under `missing` those that did not answer.",
		Errors:    []int{404, 422, 502, 503},
		Responses: map[string]*huma.Response{"304": {Description: "the client has this version"}},
	}), g.show)
	httpapi.Register(s, g.customers(huma.Operation{
		OperationID: "list-orders", Method: http.MethodGet, Path: "/v1/orders", Summary: "List orders, the newest first",
		Errors: []int{422, 502, 503},
	}), g.list)
}

func (g *Gateway) registerViews(s *httpapi.Server) {
	httpapi.Register(s, g.customers(huma.Operation{
		OperationID: "list-products", Method: http.MethodGet, Path: "/v1/products", Summary: "List products with price and stock",
		Description: "While inventory does not answer, stock is null and `missing` says so.",
		Errors:      []int{502, 503},
	}), g.products)
	httpapi.Register(s, g.customers(huma.Operation{
		OperationID: "get-order-story", Method: http.MethodGet, Path: "/v1/orders/{id}/story", Summary: "Tell what happened to an order",
		Description: "Joins what every service holds: its events, what it has applied of the others', what it has parked. " +
			"Events come after those that caused them.",
		Errors: []int{404, 502, 503},
	}), g.story)
	httpapi.Register(s, g.readers(huma.Operation{
		OperationID: "list-members", Method: http.MethodGet, Path: "/v1/members", Summary: "List the instances that the registry knows",
	}), g.members)
	httpapi.Register(s, g.readers(huma.Operation{
		OperationID: "get-conservation", Method: http.MethodGet, Path: "/v1/conservation", Summary: "Show where all money and stock are",
		Description: "Adds up the ledgers of payment and inventory. Whatever does not add up is a difference that names orders.",
	}), g.conservation)
	httpapi.Register(s, g.readers(huma.Operation{
		OperationID: "list-gauges", Method: http.MethodGet, Path: "/v1/gauges", Summary: "Show backlog, lag and counts of every instance",
		Description: "Read out of their /metrics at this moment.",
	}), g.gauges)
}

// document serves bytes that do not change.
func document(contentType string, b []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write(b) //nolint:errcheck // the client is gone
	})
}

type membersOutput struct {
	Body struct {
		Members []member `json:"members" nullable:"false"`
	}
}

type member struct {
	Service string    `json:"service"`
	ID      string    `json:"id"`
	Addr    string    `json:"addr"`
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started"`
}

func (g *Gateway) members(context.Context, *struct{}) (*membersOutput, error) {
	out := &membersOutput{}
	out.Body.Members = []member{}
	for _, service := range append([]string{gatewaySvc}, storytellers()...) {
		for _, i := range g.config.Registry.Lookup(service) {
			out.Body.Members = append(out.Body.Members, member{Service: i.Service, ID: i.ID, Addr: i.Addr, Version: i.Version, Started: i.Started.UTC()})
		}
	}
	return out, nil
}
