package inventory

import (
	"context"
	"slices"

	"github.com/jmoiron/sqlx"
)

// Held is what the ledger and the reservations say of one SKU.
type Held struct {
	Stock
	Received int64 `db:"received"` // all that ever came in
	Bound    int64 `db:"bound"`    // items of reservations in the state reserved
}

const (
	ledgerSQL = `select s.sku, s.available, s.reserved, s.sold, coalesce(b.bound, 0)::bigint as bound,
  (select coalesce(sum(l.quantity), 0)::bigint from stock_ledger l where l.sku = s.sku and l.kind = 'receive') as received
from stock s left join (
  select i.sku, sum(i.quantity) as bound from reservations r, jsonb_to_recordset(r.items) as i (sku text, quantity bigint)
  where r.state = 'reserved' group by i.sku) b on b.sku = s.sku
order by s.sku`
	// suspectsSQL asks each reservation for the ledger entries that its state stands for.
	suspectsSQL = `select r.order_id from reservations r
left join stock_ledger l on l.order_id = r.order_id
group by r.order_id, r.state
having coalesce(array_agg(distinct l.kind order by l.kind) filter (where l.kind is not null), '{}') <>
  case r.state when 'reserved' then array['reserve'] when 'shipped' then array['reserve', 'ship']
               when 'released' then array['release', 'reserve'] else array[]::text[] end
order by r.order_id desc limit 10`
)

// Ledger returns what all stock adds up to, by SKU and at one moment. Where the
// sums differ, suspects are some orders whose reservation and entries do not fit.
func (s *Service) Ledger(ctx context.Context) (all []Held, suspects []string, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		all, suspects = []Held{}, []string{}
		if err := tx.SelectContext(ctx, &all, ledgerSQL); err != nil || !slices.ContainsFunc(all, Held.differs) {
			return err
		}
		return tx.SelectContext(ctx, &suspects, suspectsSQL)
	})
	return all, suspects, err
}

// differs tells whether stock was lost or made.
func (h Held) differs() bool {
	return h.Received != h.Available+h.Reserved+h.Sold || h.Reserved != h.Bound
}
