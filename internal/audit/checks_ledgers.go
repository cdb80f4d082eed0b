package audit

func findMoney(d *Data, report reporter) {
	total := map[string]int64{}
	for _, a := range d.Accounts {
		total[a.Currency] += a.Balance
		if a.Balance != a.Entries {
			report("account %s has a balance of %d, its entries sum to %d", a.ID, a.Balance, a.Entries)
		}
		if a.Balance < 0 && a.Kind != "funding" && a.Kind != "card" {
			report("account %s is overdrawn: %d", a.ID, a.Balance)
		}
	}
	for currency, sum := range total {
		if sum != 0 {
			report("all balances in %s sum to %d, not to zero", currency, sum)
		}
	}
	for _, t := range d.Transfers {
		if t.Sum != 0 || t.Legs != 2 {
			report("transfer %d (%s of %s) has %d entries that sum to %d", t.ID, t.Kind, t.Order, t.Legs, t.Sum)
		}
	}
}

func findStock(d *Data, report reporter) {
	for _, s := range d.Stock {
		if sum := s.Available + s.Reserved + s.Sold; sum != s.Received {
			report("%s: %d available + %d reserved + %d sold = %d, but %d came in", s.SKU, s.Available, s.Reserved, s.Sold, sum, s.Received)
		}
		if s.Reserved != s.LedgerReserved || s.Sold != s.Ships {
			report("%s: %d reserved and %d sold, the ledger says %d and %d", s.SKU, s.Reserved, s.Sold, s.LedgerReserved, s.Ships)
		}
		if s.Reserved != s.Open {
			report("%s: %d reserved, but open reservations hold %d", s.SKU, s.Reserved, s.Open)
		}
		if s.Available < 0 || s.Reserved < 0 || s.Sold < 0 {
			report("%s: %d available, %d reserved, %d sold: none may be negative", s.SKU, s.Available, s.Reserved, s.Sold)
		}
	}
}
