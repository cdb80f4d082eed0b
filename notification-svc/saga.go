package main

import (
	"pavane/notification-svc/internal/notification"
	"pavane/shared/react"
)

// saga is notification-svc's part of the saga: it tells the customer and emits
// nothing.
func saga(s *notification.Service) []react.Reaction {
	return []react.Reaction{
		react.On(s.Confirmed), // the order stands
		react.On(s.Cancelled), // the order is off, and why
		react.On(s.Captured),  // a receipt, as soon as the address is known
	}
}
