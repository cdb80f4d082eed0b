package main

import (
	"pavane/inventory-svc/internal/inventory"
	"pavane/shared/contract"
	"pavane/shared/react"
)

// saga lists everything inventory-svc does in the order saga.
func saga(s *inventory.Service) []react.Reaction {
	return []react.Reaction{
		// Set the items aside, all or none.
		react.On[contract.OrderPlaced](s.Reserve, contract.InventoryReserved{}, contract.InventoryRejected{}),

		// The items leave the stock.
		react.On[contract.OrderConfirmed](s.Ship, contract.InventoryShipped{}),

		// Give the items back: at once when the payment is declined, without
		// waiting for the cancellation; else when the order is cancelled.
		react.On[contract.PaymentDeclined](s.ReleaseDeclined, contract.InventoryReleased{}),
		react.On[contract.OrderCancelled](s.ReleaseCancelled, contract.InventoryReleased{}),
	}
}
