package main

import (
	"pavane/notification-svc/internal/notification"
	"pavane/shared/contract"
	"pavane/shared/react"
)

// saga is notification-svc's part of the saga: it tells the customer and emits
// nothing.
func saga(s *notification.Service) []react.Reaction {
	return []react.Reaction{
		react.On[contract.OrderConfirmed](s.Confirmed), // the order stands
		react.On[contract.OrderCancelled](s.Cancelled), // the order is off, and why
		react.On[contract.PaymentCaptured](s.Captured), // a receipt, as soon as the address is known
	}
}
