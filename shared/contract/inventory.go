package contract

// InventoryReserved says that every item of the order is set aside.
// Inventory-svc publishes it on OrderPlaced; payment authorises.
type InventoryReserved struct {
	OrderID string `json:"order_id"`
}

// Kind names the event on the wire.
func (InventoryReserved) Kind() string { return "inventory.reserved.v1" }

// Key is the order's id.
func (e InventoryReserved) Key() string { return e.OrderID }

// InventoryRejected says that the items cannot be had and none is set aside.
// Inventory-svc publishes it on OrderPlaced; order cancels.
type InventoryRejected struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"` // for people: which SKU, how many are left
}

// Kind names the event on the wire.
func (InventoryRejected) Kind() string { return "inventory.rejected.v1" }

// Key is the order's id.
func (e InventoryRejected) Key() string { return e.OrderID }

// Failure marks the event as a refusal that others compensate for.
func (InventoryRejected) Failure() {}

// InventoryShipped says that the reserved items left the stock. Inventory-svc
// publishes it on OrderConfirmed; order notes it.
type InventoryShipped struct {
	OrderID string `json:"order_id"`
}

// Kind names the event on the wire.
func (InventoryShipped) Kind() string { return "inventory.shipped.v1" }

// Key is the order's id.
func (e InventoryShipped) Key() string { return e.OrderID }

// InventoryReleased says that the reserved items are available again.
// Inventory-svc publishes it on PaymentDeclined or OrderCancelled, whichever
// comes first; order notes it.
type InventoryReleased struct {
	OrderID string `json:"order_id"`
}

// Kind names the event on the wire.
func (InventoryReleased) Kind() string { return "inventory.released.v1" }

// Key is the order's id.
func (e InventoryReleased) Key() string { return e.OrderID }

// Undoes names what a release takes back.
func (InventoryReleased) Undoes() string { return InventoryReserved{}.Kind() }
