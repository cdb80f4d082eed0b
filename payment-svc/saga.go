package main

import (
	"pavane/payment-svc/internal/payment"
	"pavane/shared/contract"
	"pavane/shared/react"
)

// saga lists everything payment-svc does in the order saga.
func saga(s *payment.Service) []react.Reaction {
	return []react.Reaction{
		// Whichever comes last holds the amount.
		react.On[contract.OrderPlaced](s.AuthorizePlaced, contract.PaymentAuthorized{}, contract.PaymentDeclined{}),
		react.On[contract.InventoryReserved](s.AuthorizeReserved, contract.PaymentAuthorized{}, contract.PaymentDeclined{}),

		// The merchant gets what is held.
		react.On[contract.OrderConfirmed](s.Capture, contract.PaymentCaptured{}),

		// The customer gets back what is held.
		react.On[contract.OrderCancelled](s.Void, contract.PaymentVoided{}),
	}
}
