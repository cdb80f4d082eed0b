package main

import (
	"pavane/order-svc/internal/order"
	"pavane/shared/contract"
	"pavane/shared/react"
)

// saga is the order service's part of the saga: what it hears, what it does, and
// what it may answer. A transition that has happened already answers nothing.
func saga(s *order.Service) []react.Reaction {
	return []react.Reaction{
		react.Origin("POST /v1/orders", contract.OrderPlaced{}),

		// The pivot: from here on nothing is taken back.
		react.On[contract.PaymentAuthorized](s.Confirm, contract.OrderConfirmed{}),

		// Every refusal ends in a cancellation, which peers compensate for.
		react.On[contract.InventoryRejected](s.CancelOutOfStock, contract.OrderCancelled{}),
		react.On[contract.PaymentDeclined](s.CancelUnpaid, contract.OrderCancelled{}),
		react.Origin("POST /v1/orders/{id}/cancel", contract.OrderCancelled{}),
		react.Origin("deadline of an undecided order", contract.OrderCancelled{}),

		// What peers have done since; nothing follows from it here.
		react.On[contract.PaymentCaptured](s.NoteCaptured),
		react.On[contract.InventoryShipped](s.NoteShipped),
		react.On[contract.InventoryReleased](s.NoteReleased),
		react.On[contract.PaymentVoided](s.NoteVoided),
	}
}
