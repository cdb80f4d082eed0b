// Package contract owns the events of the order saga, each defined once. It is
// the one package of shared that knows the demo; the kit never imports it.
//
// Fields are only ever added, and new ones are optional: testdata holds the
// golden form of every event ever published, and each must decode for ever.
package contract

import "pavane/shared/event"

// Topics returns the topic of each publisher's events.
func Topics() event.Topics {
	return event.Topics{
		"order":     "orders.events.v1",
		"payment":   "payments.events.v1",
		"inventory": "inventory.events.v1",
	}
}

// Publishers names the service that alone publishes the events of each topic, by
// the first word of their kinds.
func Publishers() map[string]string {
	return map[string]string{"order": "order-svc", "payment": "payment-svc", "inventory": "inventory-svc"}
}

// All returns a zero value of every event.
func All() []event.Event {
	return []event.Event{
		OrderPlaced{},
		OrderConfirmed{},
		OrderCancelled{},
		InventoryReserved{},
		InventoryRejected{},
		InventoryShipped{},
		InventoryReleased{},
		PaymentAuthorized{},
		PaymentDeclined{},
		PaymentCaptured{},
		PaymentVoided{},
	}
}

// Money is an amount in minor units (cents for EUR) of an ISO 4217 currency.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// Item is one line of an order at the price that the order service fixed when
// the order was placed.
type Item struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	UnitPrice int64  `json:"unit_price"` // minor units of the order's currency
}
