package main

import (
	"pavane/payment-svc/internal/payment"
	"pavane/shared/contract"
	"pavane/shared/react"
)

// saga lists everything payment-svc does in the order saga.
func saga(s *payment.Service) []react.Reaction {
	return []react.Reaction{
		// on OrderPlaced and InventoryReserved, whichever comes last: hold the amount
		react.On(s.AuthorizePlaced, contract.PaymentAuthorized{}, contract.PaymentDeclined{}),
		react.On(s.AuthorizeReserved, contract.PaymentAuthorized{}, contract.PaymentDeclined{}),
		// on OrderConfirmed: the merchant gets what is held
		react.On(s.Capture, contract.PaymentCaptured{}),
		// on OrderCancelled: the customer gets back what is held
		react.On(s.Void, contract.PaymentVoided{}),
	}
}
