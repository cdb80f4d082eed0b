package main

import (
	"pavane/inventory-svc/internal/inventory"
	"pavane/shared/contract"
	"pavane/shared/react"
)

// saga lists everything inventory-svc does in the order saga.
func saga(s *inventory.Service) []react.Reaction {
	return []react.Reaction{
		// on OrderPlaced: set the items aside, all or none
		react.On(s.Reserve, contract.InventoryReserved{}, contract.InventoryRejected{}),
		// on OrderConfirmed: the items leave the stock
		react.On(s.Ship, contract.InventoryShipped{}),
		// on PaymentDeclined: give the items back, without waiting for the cancellation
		react.On(s.ReleaseDeclined, contract.InventoryReleased{}),
		// on OrderCancelled: give back what is still set aside
		react.On(s.ReleaseCancelled, contract.InventoryReleased{}),
	}
}
