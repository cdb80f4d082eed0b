package search

import "fmt"

// world is a state of the whole: each order's part, and the faults so far.
type world struct {
	orders  [maxOrders]int32
	dups    uint8
	crashes uint8
}

// next calls yield with every step and where it leads, until yield returns false.
func (m *Model) next(w *world, yield func(s *step, order int, to world) bool) {
	for k := range m.cfg.Orders {
		steps := m.steps(w.orders[k])
		for i := range steps {
			s := &steps[i]
			dups, crashes := w.dups+s.dup(), w.crashes+s.crash()
			if int(dups) > m.cfg.Duplicates || int(crashes) > m.cfg.Crashes {
				continue
			}
			if s.asks != nothing && m.answer(w, k, s.asks) != s.granted {
				continue
			}
			to := *w
			to.orders[k] = s.to
			to.dups, to.crashes = dups, crashes
			if !yield(s, k, to) {
				return
			}
		}
	}
}

// answer is what stock or wallet say to an order.
//
// Stock: inventory's shortage over lockStockSQL ("select sku, available from
// stock where sku = any($1) order by sku for no key update"): every SKU must have
// what is wanted, all or none.
//
// Wallet: payment's Wallet.Authorize over lockWalletSQL ("select balance from
// accounts where account_id = $1 for no key update"): the balance must cover the
// amount.
func (m *Model) answer(w *world, k int, of resource) bool {
	if of == wallet {
		return m.balance(w, m.purse[k]) >= m.cfg.Orders[k].Price
	}
	for sku, wanted := range m.wanted[k] {
		if available, _, _ := m.stock(w, sku); wanted > 0 && available < wanted {
			return false
		}
	}
	return true
}

// stock is the row of a SKU, as the trigger stock_follows_ledger leaves it.
func (m *Model) stock(w *world, sku int) (available, reserved, sold int) {
	available = m.received[sku]
	for k := range m.cfg.Orders {
		p, n := &m.parts[w.orders[k]], m.wanted[k][sku]
		available -= n * p.taken
		reserved += n * (p.taken - p.sold)
		sold += n * p.sold
	}
	return available, reserved, sold
}

// balance is what a customer may spend, as the trigger balance_follows_entries
// leaves it.
func (m *Model) balance(w *world, purse int) int {
	balance := m.paidIn[purse]
	for k := range m.cfg.Orders {
		if m.purse[k] == purse {
			balance -= m.cfg.Orders[k].Price * m.parts[w.orders[k]].held
		}
	}
	return balance
}

// check says which promise a world breaks by its orders together: stock and
// money are never below zero (stock_available_covers, stock_reserved_covers,
// accounts_covered) and nothing is lost or made.
func (m *Model) check(w *world) string {
	for k := range m.cfg.Orders {
		if why := m.parts[w.orders[k]].bad; why != "" {
			return fmt.Sprintf("order %c: %s", 'A'+k, why)
		}
	}
	for sku, received := range m.received {
		if a, r, s := m.stock(w, sku); a < 0 || r < 0 || s < 0 || a+r+s != received {
			return fmt.Sprintf("stock of %s: %d available, %d reserved, %d sold, of %d", m.skus[sku], a, r, s, received)
		}
	}
	for purse, customer := range m.customers {
		if balance := m.balance(w, purse); balance < 0 {
			return fmt.Sprintf("the wallet of %s holds %d", customer, balance)
		}
	}
	return ""
}

// over is whether every order has come to its end.
func (m *Model) over(w *world) bool {
	for k := range m.cfg.Orders {
		if !m.parts[w.orders[k]].quiet {
			return false
		}
	}
	return true
}
