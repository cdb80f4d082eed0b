package notification

import (
	"context"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/failpoint"
	"pavane/shared/postgres"
	"pavane/shared/tracing"
)

// addresseeSQL locks the order's row for the transaction, keeps the address if
// one is given, and returns the one that is known. Its conflict clause waits for
// another transaction on the same order, so the second sees what the first did.
const addresseeSQL = `insert into addressees (order_id, address) values ($1, $2)
on conflict (order_id) do update set address =
  case when excluded.address <> '' then excluded.address else addressees.address end
returning address`

func addressee(ctx context.Context, tx *sqlx.Tx, order, address string) (known string, err error) {
	err = tx.GetContext(ctx, &known, addresseeSQL, order, address)
	return known, err
}

const writeMailSQL = `insert into mails (order_id, kind, recipient, subject, body, traceparent, state)
values ($1, $2, $3, $4, $5, $6, case when $3 = '' then 'held' else 'pending' end)
on conflict (order_id, kind) do nothing`

func writeMail(ctx context.Context, tx *sqlx.Tx, m Message) error {
	_, err := tx.ExecContext(ctx, writeMailSQL, m.OrderID, m.Kind, m.Recipient, m.Subject, m.Body, tracing.TraceParent(ctx))
	return err
}

const addressSQL = `update mails set recipient = $2, state = 'pending', next_at = clock_timestamp()
where order_id = $1 and state = 'held'`

// address lets the order's mails go that waited for their address.
func address(ctx context.Context, tx *sqlx.Tx, order, to string) error {
	_, err := tx.ExecContext(ctx, addressSQL, order, to)
	return err
}

const writeWebhookSQL = `insert into webhooks (order_id, kind, body, traceparent)
values ($1, $2, $3, $4)
on conflict (order_id, kind) do nothing`

func writeWebhook(ctx context.Context, tx *sqlx.Tx, m Message) error {
	_, err := tx.ExecContext(ctx, writeWebhookSQL, m.OrderID, m.Kind, m.Body, tracing.TraceParent(ctx))
	return err
}

// queue is where the messages of one carrier wait. Each has a table of its own, so
// that one whose receiver is away holds up nothing of the other. The statements
// are the same: {table} and {columns} stand for what differs.
type queue struct {
	name    string // of one message: "mail"
	table   string
	columns string // of a message, besides order and kind
}

func mails() queue {
	return queue{name: "mail", table: "mails", columns: "m.recipient, m.subject, m.body"}
}

func webhooks() queue { return queue{name: "webhook", table: "webhooks", columns: "m.body"} }

func (q queue) sql(text string) string {
	return strings.NewReplacer("{table}", q.table, "{columns}", q.columns).Replace(text)
}

// claimSQL takes up messages for $2 seconds: until then no other sender takes
// them. Two statements of two senders never wait for each other. One that lies
// more than $3 seconds off, further than any pause is long, was put there by a
// clock that has gone back since.
const claimSQL = `with due as (
  select order_id, kind from {table}
  where state = 'pending' and (next_at <= clock_timestamp() or next_at > clock_timestamp() + make_interval(secs => $3))
  order by next_at limit $1
  for update skip locked
)
update {table} m set attempts = m.attempts + 1, next_at = clock_timestamp() + make_interval(secs => $2)
from due where m.order_id = due.order_id and m.kind = due.kind
returning m.order_id, m.kind, {columns}, m.attempts, m.traceparent`

// claimed is a message that this sender alone may send until its claim runs out.
type claimed struct {
	Message
	Attempts    int    `db:"attempts"` // with this one
	TraceParent string `db:"traceparent"`
}

func (q queue) claim(ctx context.Context, db *postgres.DB, limit int, hold time.Duration) (due []claimed, err error) {
	err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		due = nil
		if err := tx.SelectContext(ctx, &due, q.sql(claimSQL), limit, hold.Seconds(), max(hold, maxPause).Seconds()); err != nil || len(due) == 0 {
			return err
		}
		return failpoint.Hit(ctx, "message.before_claim")
	})
	return due, err
}

const sentSQL = `update {table} set state = 'sent', sent_at = clock_timestamp(), last_error = '', refused = false
where order_id = $1 and kind = $2 and state = 'pending'`

func (q queue) markSent(ctx context.Context, db *postgres.DB, m claimed) error {
	return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, q.sql(sentSQL), m.OrderID, m.Kind)
		return err
	})
}

const putOffSQL = `update {table} set next_at = clock_timestamp() + make_interval(secs => $3),
  last_error = case when $4 = '' then last_error else $4 end, refused = case when $4 = '' then refused else $6 end
where order_id = $1 and kind = $2 and state = 'pending' and attempts = $5`

// putOff ends the claim of a message that was not sent, and without a reason was
// not tried. The number of attempts tells whether the claim is still this sender's.
func (q queue) putOff(ctx context.Context, db *postgres.DB, m claimed, pause time.Duration, reason string, refused bool) error {
	err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, q.sql(putOffSQL), m.OrderID, m.Kind, pause.Seconds(), reason, m.Attempts, refused); err != nil {
			return err
		}
		return failpoint.Hit(ctx, "message.before_give_back")
	})
	if err != nil {
		return err
	}
	return failpoint.Hit(ctx, "message.after_give_back")
}

const ofOrderSQL = `select order_id, kind, recipient, subject, state, attempts, created_at, sent_at, last_error
from mails where order_id = $1 order by created_at, kind`

// Status is what became of a mail.
type Status struct {
	OrderID   string     `db:"order_id" json:"order_id"`
	Kind      Kind       `db:"kind" json:"kind" enum:"confirmed,cancelled,receipt"`
	Recipient string     `db:"recipient" json:"recipient" doc:"empty while it is not known"`
	Subject   string     `db:"subject" json:"subject"`
	State     string     `db:"state" json:"state" enum:"held,pending,sent" doc:"held waits for the address, pending for the mail server"`
	Attempts  int        `db:"attempts" json:"attempts"`
	CreatedAt time.Time  `db:"created_at" json:"created_at"`
	SentAt    *time.Time `db:"sent_at" json:"sent_at,omitempty"`
	LastError string     `db:"last_error" json:"last_error,omitempty" doc:"of the last attempt that failed"`
}

// OfOrder returns the mails of an order, oldest first; none for an order that no
// fact has come for yet.
func OfOrder(ctx context.Context, db *postgres.DB, order string) (mails []Status, err error) {
	err = db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		mails = []Status{}
		return tx.SelectContext(ctx, &mails, ofOrderSQL, order)
	})
	return mails, err
}

const webhooksOfSQL = `select kind, state, attempts, refused, created_at, sent_at, last_error
from webhooks where order_id = $1 order by created_at, kind`

// WebhookStatus is what became of a webhook.
type WebhookStatus struct {
	Kind      Kind       `db:"kind" json:"kind" enum:"confirmed,cancelled,receipt"`
	State     string     `db:"state" json:"state" enum:"pending,sent"`
	Attempts  int        `db:"attempts" json:"attempts"`
	Refused   bool       `db:"refused" json:"refused" doc:"the receiver said that it will never take it"`
	CreatedAt time.Time  `db:"created_at" json:"created_at"`
	SentAt    *time.Time `db:"sent_at" json:"sent_at,omitempty"`
	LastError string     `db:"last_error" json:"last_error,omitempty" doc:"of the last attempt that failed"`
}

// WebhooksOf returns the webhooks of an order, oldest first; none where nobody is
// told by them.
func WebhooksOf(ctx context.Context, db *postgres.DB, order string) ([]WebhookStatus, error) {
	var all []WebhookStatus
	err := db.Select(ctx, &all, webhooksOfSQL, order)
	return append([]WebhookStatus{}, all...), err
}
