package contract

// PaymentAuthorized says that the order's amount is held. Payment-svc publishes
// it once it knows OrderPlaced and InventoryReserved; order confirms.
type PaymentAuthorized struct {
	OrderID string `json:"order_id"`
	Amount  Money  `json:"amount"`
}

// Kind names the event on the wire.
func (PaymentAuthorized) Kind() string { return "payment.authorized.v1" }

// Key is the order's id.
func (e PaymentAuthorized) Key() string { return e.OrderID }

// PaymentDeclined says that the amount cannot be had and none is held.
// Payment-svc publishes it once it knows OrderPlaced and InventoryReserved;
// order cancels and inventory, without waiting for that, releases.
type PaymentDeclined struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"` // for people: "the wallet holds 3.00 EUR, the order costs 5.00 EUR"
}

// Kind names the event on the wire.
func (PaymentDeclined) Kind() string { return "payment.declined.v1" }

// Key is the order's id.
func (e PaymentDeclined) Key() string { return e.OrderID }

// Failure marks the event as a refusal that others compensate for.
func (PaymentDeclined) Failure() {}

// PaymentCaptured says that the held amount went to the merchant. Payment-svc
// publishes it on OrderConfirmed; order notes it, notification sends a receipt.
type PaymentCaptured struct {
	OrderID string `json:"order_id"`
	Amount  Money  `json:"amount"`
}

// Kind names the event on the wire.
func (PaymentCaptured) Kind() string { return "payment.captured.v1" }

// Key is the order's id.
func (e PaymentCaptured) Key() string { return e.OrderID }

// PaymentVoided says that the held amount went back to the customer.
// Payment-svc publishes it on OrderCancelled; order notes it.
type PaymentVoided struct {
	OrderID string `json:"order_id"`
	Amount  Money  `json:"amount"`
}

// Kind names the event on the wire.
func (PaymentVoided) Kind() string { return "payment.voided.v1" }

// Key is the order's id.
func (e PaymentVoided) Key() string { return e.OrderID }

// Undoes names what a void takes back.
func (PaymentVoided) Undoes() string { return PaymentAuthorized{}.Kind() }
