package payment

import (
	"context"

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
	// Unsettled is, per currency, what the wallet payments in the state
	// authorized come to. It is what the held accounts hold.
	Unsettled map[string]int64
	// Suspects are some orders whose payment and transfers do not fit; looked for
	// only when the two above differ.
	Suspects []string
}

const (
	balancesSQL  = `select kind, currency, sum(balance)::bigint as balance from accounts group by kind, currency order by currency, kind`
	unsettledSQL = `select '' as kind, currency, sum(amount)::bigint as balance from payments
where state = 'authorized' and method = 'wallet' group by currency`
	// suspectsSQL asks each wallet payment for the transfers that its state stands for.
	suspectsSQL = `select p.order_id from payments p
left join transfers t on t.order_id = p.order_id
where p.method = 'wallet'
group by p.order_id, p.state
having coalesce(array_agg(t.kind order by t.kind) filter (where t.kind is not null), '{}') <>
  case p.state when 'authorized' then array['authorize'] when 'captured' then array['authorize', 'capture']
               when 'voided' then array['authorize', 'void'] else array[]::text[] end
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
	for _, b := range l.Balances {
		if b.Kind == "held" && b.Balance != l.Unsettled[b.Currency] {
			return false
		}
	}
	return true
}
