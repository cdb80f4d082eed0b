package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/chaos"
	"pavane/cmd/pavane/internal/client"
)

func orderCommand() *cobra.Command {
	var t target
	var customer string
	var item client.Item
	var count int
	var rate float64
	var length time.Duration
	c := &cobra.Command{
		Use:   "order",
		Short: "Place orders and show how each ends",
		Long: `Places --count orders of one item, one after the other. With --rate it places
orders of all kinds on a constant schedule for the time of --for, counts how
they end, and exits with status 1 when one was not placed or did not end.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if count < 1 || count > 10_000 {
				return errors.New("order: want --count from 1 to 10000")
			}
			if err := checkRate("--rate", rate); err != nil {
				return err
			}
			if err := t.resolve(true, false, false); err != nil {
				return err
			}
			if rate > 0 {
				return shopFor(c.Context(), t.client(), rate, length, newPrinter(c.OutOrStdout()))
			}
			gateway := t.client()
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
	c.Flags().Float64Var(&rate, "rate", 0, "orders per second, of all kinds, in place of --count orders of one item")
	c.Flags().DurationVar(&length, "for", 10*time.Second, "with --rate: how long orders are placed")
	return c
}

// checkRate refuses orders per second that cannot be placed; 0 is none.
func checkRate(flag string, rate float64) error {
	if rate >= 0 && rate <= chaos.MaxRate {
		return nil
	}
	return fmt.Errorf("%s %g: want orders per second from 0 to %d", flag, rate, chaos.MaxRate)
}

// shopFor places orders at a rate and fails when one does not end.
func shopFor(ctx context.Context, gateway *client.Client, rate float64, length time.Duration, p *printer) error {
	quiet := p.alive("placing orders and waiting for them to end")
	stop := chaos.Shop(ctx, gateway, rate)
	wait(ctx, length)
	t := stop(chaos.ShopLimit)
	quiet()
	p.say("orders: %s", t)
	if t.Open > 0 || t.Placed < t.Due || t.Due == 0 {
		return errVerdict
	}
	return nil
}
