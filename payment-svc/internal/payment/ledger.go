package payment

import (
	"context"
	"maps"

	"github.com/jmoiron/sqlx"
)

// Balance is what all accounts of one kind hold together in one currency.
type Balance struct {
	Kind     string `db:"kind"`
	Currency string `db:"currency"`
	Balance  int64  `db:"balance"` // minor units
}

// Ledger is what the money adds up to.
type Ledger struct {
	Balances []Balance // by currency and kind; all of a currency are zero together
	// Unsettled is, per currency, what the payments that are authorised and not
	// settled come to. It is what the held accounts hold.
	Unsettled map[string]int64
	// Suspects are some orders whose payment and transfers do not fit; looked for
	// only when the two above differ.
	Suspects []string
}

const (
	balancesSQL = `select kind, currency, sum(balance)::bigint as balance from accounts group by kind, currency order by currency, kind`
	// A void by card may be under way before anything was authorised.
	unsettledSQL = `select '' as kind, p.currency, sum(p.amount)::bigint as balance from payments p
where p.amount <> 0 and (p.state in ('authorized', 'capturing')
  or p.state = 'voiding' and exists (select from transfers t where t.order_id = p.order_id and t.kind = 'authorize'))
group by p.currency`
	// suspectsSQL asks each payment for the transfers that its state stands for.
	suspectsSQL = `select p.order_id from payments p
left join transfers t on t.order_id = p.order_id
group by p.order_id, p.state
having coalesce(string_agg(t.kind, ' ' order by t.kind), '') <> all (case
  when p.state in ('authorized', 'capturing') then array['authorize']
  when p.state = 'captured' then array['authorize capture']
  when p.state = 'voiding' then array['authorize', '']
  when p.state = 'voided' then array['authorize void', '']
  else array[''] end)
order by p.order_id desc limit 10`
)

// Ledger adds up all accounts, at one moment.
func (s *Service) Ledger(ctx context.Context) (Ledger, error) {
	var l Ledger
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		l = Ledger{Balances: []Balance{}, Unsettled: map[string]int64{}, Suspects: []string{}}
		if err := tx.SelectContext(ctx, &l.Balances, balancesSQL); err != nil {
			return err
		}
		var open []Balance
		if err := tx.SelectContext(ctx, &open, unsettledSQL); err != nil {
			return err
		}
		for _, o := range open {
			l.Unsettled[o.Currency] = o.Balance
		}
		if l.sound() {
			return nil
		}
		return tx.SelectContext(ctx, &l.Suspects, suspectsSQL)
	})
	return l, err
}

// sound tells whether the held accounts hold what is unsettled.
func (l Ledger) sound() bool {
	held := map[string]int64{}
	for _, b := range l.Balances {
		if b.Kind == "held" && b.Balance != 0 {
			held[b.Currency] += b.Balance
		}
	}
	return maps.Equal(held, l.Unsettled)
}
