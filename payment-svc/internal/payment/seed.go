package payment

import (
	"context"
	"fmt"
)

// SeedDemo opens the wallets of the demo's twenty customers and pays
// 1,000,000.00 EUR into each but the last, whose orders are always declined.
// Doing it again changes nothing.
func (s *Service) SeedDemo(ctx context.Context) error {
	customers := make([]string, 20)
	for i := range customers {
		customers[i] = fmt.Sprintf("cust-%02d", i+1)
	}
	if err := s.OpenWallets(ctx, "EUR", customers...); err != nil {
		return err
	}
	return s.Deposit(ctx, "demo", 1_000_000_00, "EUR", customers[:len(customers)-1]...)
}
