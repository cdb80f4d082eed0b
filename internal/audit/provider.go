package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	ledgerTime = 30 * time.Second
	maxLedger  = 1 << 30 // bytes
)

// Charged is a charge in the ledger of the card provider.
type Charged struct {
	Key       string `json:"key"`
	Reference string `json:"reference"` // the order; empty: voided before it was seen
	State     string `json:"state"`     // held, refused, captured, voided
	Amount    int64  `json:"amount"`
	Captures  int    `json:"captures"` // how often money was taken
}

// loadLedger reads the provider's own ledger, past all faults that it simulates.
func loadLedger(ctx context.Context, src Source, d *Data) error {
	if src.Provider == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(src.Provider, "/")+"/v1/admin/charges", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	var ledger struct {
		Charges []Charged `json:"charges"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxLedger)).Decode(&ledger); err != nil {
		return err
	}
	d.Ledger, d.HasLedger = slices.DeleteFunc(ledger.Charges, func(c Charged) bool { return !d.share.has(c.Reference) }), true
	return nil
}

func findWrongCharges(d *Data, report reporter) {
	d.decided(func(o Order, _ map[string]bool) {
		c, there := d.Charges[o.ID]
		card := d.Payments[o.ID].Method == "card"
		switch {
		case there && !card:
			report("order %s is not paid by card, but a card was to be charged for it", o.ID)
		case o.State == confirmed && card && c.Known != "captured":
			report("order %s confirmed, but its card charge is %q", o.ID, c.Known)
		case o.State == cancelled && (c.Known == "held" || c.Known == "captured" || c.Wanted == "void" && c.Known == "none"):
			report("order %s cancelled (%s), but its card charge is %q and was to be %q", o.ID, o.Reason, c.Known, c.Wanted)
		}
	})
}

// findWrongLedger judges by the provider's ledger alone what became of the money.
func findWrongLedger(d *Data, report reporter) {
	if !d.HasLedger {
		return
	}
	captures, captured, held := map[string]int{}, map[string]int64{}, map[string]bool{}
	for _, c := range d.Ledger {
		captures[c.Reference] += c.Captures
		captured[c.Reference] += c.Amount * int64(c.Captures)
		held[c.Reference] = held[c.Reference] || c.State == "held"
	}
	d.decided(func(o Order, _ map[string]bool) {
		n := captures[o.ID]
		switch {
		case o.State == confirmed && d.Payments[o.ID].Method == "card" && (n != 1 || captured[o.ID] != o.Total):
			report("order %s confirmed for %d by card, but the provider took %d in %d captures", o.ID, o.Total, captured[o.ID], n)
		case (o.State == cancelled || d.Payments[o.ID].Method != "card") && n != 0:
			report("order %s %s, but the provider took %d in %d captures", o.ID, o.State, captured[o.ID], n)
		case held[o.ID]:
			report("order %s %s, but the provider still holds its money", o.ID, o.State)
		}
	})
	young := d.young()
	for _, reference := range slices.Sorted(maps.Keys(captures)) {
		if _, known := d.Orders[reference]; !known && !young[reference] && (captures[reference] > 0 || held[reference]) {
			report("the provider holds or took money for %s, which is no order", reference)
		}
	}
}
