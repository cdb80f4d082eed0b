package gateway

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/contract"
)

// doc is a document of a service: what the gateway reads of it, and the whole as
// it came. The whole goes on, so a service may add fields before the gateway
// knows them.
type doc[T any] struct {
	value T
	raw   json.RawMessage
}

func parse[T any](service string, body []byte) (doc[T], error) {
	d := doc[T]{raw: body}
	if err := json.Unmarshal(body, &d.value); err != nil {
		return d, fmt.Errorf("%s answered what cannot be read: %w", service, err)
	}
	return d, nil
}

// MarshalJSON gives back what came.
func (d doc[T]) MarshalJSON() ([]byte, error) {
	if d.raw == nil {
		return []byte("null"), nil
	}
	return d.raw, nil
}

// Schema is that of the known fields, open to others.
func (doc[T]) Schema(r huma.Registry) *huma.Schema {
	s := r.Schema(reflect.TypeFor[T](), true, "")
	open(r, s)
	return s
}

// open lets a schema and all below it have further fields.
func open(r huma.Registry, s *huma.Schema) {
	switch {
	case s == nil:
	case s.Ref != "":
		open(r, r.SchemaFromRef(s.Ref))
	case s.Type == huma.TypeArray:
		open(r, s.Items)
	case s.Type == huma.TypeObject:
		s.AdditionalProperties = true
		for _, field := range s.Properties {
			open(r, field)
		}
	}
}

// Order is an order as order-svc shows it.
type Order struct {
	OrderID       string          `json:"order_id"`
	CustomerID    string          `json:"customer_id"`
	State         string          `json:"state" enum:"placed,confirmed,cancelled"`
	Reason        string          `json:"reason,omitempty" doc:"why it is cancelled: out_of_stock, payment_declined, customer or deadline"`
	Detail        string          `json:"detail,omitempty" doc:"more about the reason, for people"`
	Items         []contract.Item `json:"items" nullable:"false"`
	Total         contract.Money  `json:"total"`
	PaymentMethod string          `json:"payment_method"`
	Version       int64           `json:"version" doc:"how many events of the order there are"`
	PlacedAt      time.Time       `json:"placed_at"`
	DecidedAt     *time.Time      `json:"decided_at,omitempty" doc:"absent while it is placed"`
	DeadlineAt    *time.Time      `json:"deadline_at,omitempty" doc:"when it will be cancelled if nothing decides it; only of one order that is placed"`
	Effects       struct {
		Captured bool `json:"captured"`
		Voided   bool `json:"voided"`
		Shipped  bool `json:"shipped"`
		Released bool `json:"released"`
	} `json:"effects" doc:"what the other services have done for it"`
}

// Payment is what payment-svc holds of an order.
type Payment struct {
	State  string          `json:"state"`
	Amount *contract.Money `json:"amount,omitempty"`
	Reason string          `json:"reason,omitempty"`
}

// Reservation is what inventory-svc holds of an order.
type Reservation struct {
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// Notification is one mail or webhook of an order.
type Notification struct {
	Kind   string     `json:"kind"`
	State  string     `json:"state"`
	SentAt *time.Time `json:"sent_at,omitempty"`
}

// Missing names a service whose part is not in the answer.
type Missing struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
}

// FullOrder is an order with what the other services hold of it.
type FullOrder struct {
	Order         *doc[Order]         `json:"order" doc:"null when order-svc is missing"`
	Payment       *doc[Payment]       `json:"payment" doc:"null when there is none yet or payment-svc is missing"`
	Reservation   *doc[Reservation]   `json:"reservation" doc:"null when there is none yet or inventory-svc is missing"`
	Notifications []doc[Notification] `json:"notifications" nullable:"false" doc:"the mails"`
	Webhooks      []doc[Notification] `json:"webhooks" nullable:"false" doc:"none where no webhook is set"`
	Missing       []Missing           `json:"missing" nullable:"false" doc:"the services that did not answer"`
}

// orderBody is an order in one of its two views.
type orderBody struct{ any }

// MarshalJSON writes the view.
func (b orderBody) MarshalJSON() ([]byte, error) { return json.Marshal(b.any) }

// Schema offers both views.
func (orderBody) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		doc[Order]{}.Schema(r), r.Schema(reflect.TypeFor[FullOrder](), true, ""),
	}}
}
