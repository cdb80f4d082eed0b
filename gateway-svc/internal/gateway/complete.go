package gateway

import "pavane/shared/contract"

// complete tells whether an order of which these kinds of events happened can
// have no further ones. Where that is not certain, as after a cancellation that
// may have overtaken a reservation, it says no.
func complete(happened map[string]bool) bool {
	all := func(kinds ...string) bool {
		for _, kind := range kinds {
			if !happened[kind] {
				return false
			}
		}
		return true
	}
	cancelled, released := contract.OrderCancelled{}.Kind(), contract.InventoryReleased{}.Kind()
	switch {
	case all(contract.OrderConfirmed{}.Kind(), contract.PaymentCaptured{}.Kind(), contract.InventoryShipped{}.Kind()):
		return true
	case all(cancelled, contract.InventoryRejected{}.Kind()):
		return true
	case all(cancelled, released, contract.PaymentDeclined{}.Kind()):
		return true
	case all(cancelled, released, contract.PaymentVoided{}.Kind()):
		return true
	}
	return false
}
