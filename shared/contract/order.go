package contract

// OrderPlaced says that a customer ordered. Order-svc publishes it; inventory
// reserves the items, payment remembers the amount.
type OrderPlaced struct {
	OrderID       string `json:"order_id"`
	CustomerID    string `json:"customer_id"`
	Email         string `json:"email"`
	Items         []Item `json:"items"`
	Total         Money  `json:"total"`
	PaymentMethod string `json:"payment_method"`       // "wallet" or "card"
	CardToken     string `json:"card_token,omitempty"` // what the payment provider calls the card; empty: not paid by card
}

// Kind names the event on the wire.
func (OrderPlaced) Kind() string { return "order.placed.v1" }

// Key is the order's id.
func (e OrderPlaced) Key() string { return e.OrderID }

// OrderConfirmed says that the order stands: the pivot of the saga, after which
// nothing is taken back. Order-svc publishes it on PaymentAuthorized; payment
// captures, inventory ships, notification tells the customer.
type OrderConfirmed struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Email      string `json:"email"`
	Total      Money  `json:"total"`
}

// Kind names the event on the wire.
func (OrderConfirmed) Kind() string { return "order.confirmed.v1" }

// Key is the order's id.
func (e OrderConfirmed) Key() string { return e.OrderID }

// OrderCancelled says that the order is off. Order-svc publishes it when stock
// or payment was refused, when the customer cancels or the deadline passes;
// inventory releases, payment voids, notification tells the customer.
type OrderCancelled struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Email      string `json:"email"`
	Reason     string `json:"reason"` // "out_of_stock", "payment_declined", "customer", "deadline"
	Detail     string `json:"detail,omitempty"`
}

// Kind names the event on the wire.
func (OrderCancelled) Kind() string { return "order.cancelled.v1" }

// Key is the order's id.
func (e OrderCancelled) Key() string { return e.OrderID }

// Failure marks the event as a refusal that others compensate for.
func (OrderCancelled) Failure() {}

// Undoes names what a cancellation takes back.
func (OrderCancelled) Undoes() string { return OrderPlaced{}.Kind() }
