package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/client"
)

func orderCommand() *cobra.Command {
	var t target
	var customer string
	var item client.Item
	var count int
	c := &cobra.Command{
		Use:   "order",
		Short: "Place orders and show how each ends",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if count < 1 || count > 10_000 {
				return errors.New("order: want --count from 1 to 10000")
			}
			if err := t.resolve(true, false, false); err != nil {
				return err
			}
			gateway := client.New(t.gateway)
			for range count {
				begin := time.Now()
				id, o, err := placeAndWait(c.Context(), gateway, client.Body(customer, item))
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%s %s after %d ms\n", id, strings.TrimSpace(o.State+" "+o.Reason), time.Since(begin).Milliseconds())
			}
			return nil
		},
	}
	t.flags(c)
	c.Flags().StringVar(&customer, "customer", "cust-01", "who orders")
	c.Flags().StringVar(&item.SKU, "sku", "tea-green", "what is ordered")
	c.Flags().Int64Var(&item.Quantity, "quantity", 1, "pieces in each order")
	c.Flags().IntVar(&count, "count", 1, "orders to place, one after the other")
	return c
}
