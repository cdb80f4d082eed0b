package inventory

import "context"

// SeedDemo takes the demo's goods into stock, once for ever. Plenty of most,
// few cast-iron pots and kettles, and no gift cards, so that orders for one are
// always rejected.
func (s *Service) SeedDemo(ctx context.Context) error {
	items := []Item{{SKU: "gift-card"}, {SKU: "pot-cast", Quantity: 5}, {SKU: "kettle", Quantity: 50}}
	for _, sku := range []string{
		"tea-green", "tea-black", "mug-red", "mug-blue", "honey", "biscuits", "tray", "whisk", "tin",
	} {
		items = append(items, Item{SKU: sku, Quantity: 100_000})
	}
	return s.Receive(ctx, "demo", items)
}
