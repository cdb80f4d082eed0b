package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"pavane/shared/contract"
)

// moneyLedger is what payment-svc's accounts add up to (GET /v1/ledger).
type moneyLedger struct {
	Balances []struct {
		Kind    string         `json:"kind"`
		Balance contract.Money `json:"balance"`
	} `json:"balances"`
	Unsettled []contract.Money `json:"unsettled"`
	Suspects  []string         `json:"suspects"`
}

// stockLedger is what inventory-svc's stock adds up to (GET /v1/ledger).
type stockLedger struct {
	Stock []struct {
		SKU string `json:"sku"`
		Stock
		Received int64 `json:"received"`
		Bound    int64 `json:"bound"`
	} `json:"stock"`
	Suspects []string `json:"suspects"`
}

// moneySum is where the money of a currency is, in minor units: what was paid in
// is available, in flight or earned.
type moneySum struct {
	Currency  string `json:"currency"`
	PaidIn    int64  `json:"paid_in"`
	Available int64  `json:"available" doc:"on the customers' accounts"`
	InFlight  int64  `json:"in_flight" doc:"set aside for orders that are not settled"`
	Earned    int64  `json:"earned"`

	unsettled int64
}

// stockSum is where the pieces of a SKU are: what was received is available, in
// flight or sold.
type stockSum struct {
	SKU       string `json:"sku"`
	Received  int64  `json:"received"`
	Available int64  `json:"available"`
	InFlight  int64  `json:"in_flight" doc:"reserved for orders that are not settled"`
	Sold      int64  `json:"sold"`

	bound int64
}

// difference is something that does not add up.
type difference struct {
	Of     string   `json:"of" doc:"a currency or a SKU"`
	Reason string   `json:"reason"`
	Orders []string `json:"orders" nullable:"false" doc:"some orders that it may come from"`
}

// Conservation says where all money and stock are, each service's at one moment,
// and what does not add up.
type Conservation struct {
	Money       []moneySum   `json:"money" nullable:"false"`
	Stock       []stockSum   `json:"stock" nullable:"false"`
	Differences []difference `json:"differences" nullable:"false" doc:"empty: all is there"`
	Missing     []Missing    `json:"missing" nullable:"false" doc:"the services that did not answer, whose part is not checked"`
}

// countTime bounds a count. The page counts every 0.8 s, and shows within two seconds
// that a service is away.
const countTime = 700 * time.Millisecond

type conservationOutput struct{ Body Conservation }

// conservation asks both ledgers. Each is whole in itself at any moment, so
// nothing has to be compared across databases.
func (g *Gateway) conservation(ctx context.Context, _ *struct{}) (*conservationOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	c := Conservation{Money: []moneySum{}, Stock: []stockSum{}, Differences: []difference{}}
	ga := &gather{}
	ga.part(ctx, g.upstream, paymentSvc, "/v1/ledger", func(body []byte) error {
		l, err := parse[moneyLedger](paymentSvc, body)
		if err == nil {
			c.addMoney(l.value)
		}
		return err
	})
	ga.part(ctx, g.upstream, inventorySvc, "/v1/ledger", func(body []byte) error {
		l, err := parse[stockLedger](inventorySvc, body)
		if err == nil {
			c.addStock(l.value)
		}
		return err
	})
	c.Missing = ga.done()
	slices.SortFunc(c.Differences, func(a, b difference) int { return cmp.Or(cmp.Compare(a.Of, b.Of), cmp.Compare(a.Reason, b.Reason)) })
	return &conservationOutput{Body: c}, nil
}

func (c *Conservation) addMoney(l moneyLedger) {
	sums := map[string]*moneySum{}
	of := func(currency string) *moneySum {
		if sums[currency] == nil {
			sums[currency] = &moneySum{Currency: currency}
		}
		return sums[currency]
	}
	for _, b := range l.Balances {
		s, amount := of(b.Balance.Currency), b.Balance.Amount
		switch b.Kind {
		case "customer":
			s.Available += amount
		case "held":
			s.InFlight += amount
		case "merchant":
			s.Earned += amount
		default: // the world outside, which pays in
			s.PaidIn -= amount
		}
	}
	for _, u := range l.Unsettled {
		of(u.Currency).unsettled = u.Amount
	}
	for _, s := range sums {
		c.Money = append(c.Money, *s)
		if d := s.Available + s.InFlight + s.Earned - s.PaidIn; d != 0 {
			c.differ(s.Currency, l.Suspects, "the accounts hold %+d more than was paid in", d)
		}
		if d := s.InFlight - s.unsettled; d != 0 {
			c.differ(s.Currency, l.Suspects, "%+d more is held than the open payments come to", d)
		}
	}
	slices.SortFunc(c.Money, func(a, b moneySum) int { return cmp.Compare(a.Currency, b.Currency) })
}

func (c *Conservation) addStock(l stockLedger) {
	for _, one := range l.Stock {
		s := stockSum{SKU: one.SKU, Received: one.Received, Available: one.Available, InFlight: one.Reserved, Sold: one.Sold, bound: one.Bound}
		c.Stock = append(c.Stock, s)
		if d := s.Available + s.InFlight + s.Sold - s.Received; d != 0 {
			c.differ(s.SKU, l.Suspects, "%+d more pieces are there than were received", d)
		}
		if d := s.InFlight - s.bound; d != 0 {
			c.differ(s.SKU, l.Suspects, "%+d more pieces are reserved than the open reservations come to", d)
		}
	}
}

func (c *Conservation) differ(of string, orders []string, format string, d int64) {
	c.Differences = append(c.Differences, difference{Of: of, Reason: fmt.Sprintf(format, d), Orders: append([]string{}, orders...)})
}
