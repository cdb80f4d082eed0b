package smoke

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/cmd/pavane/internal/stack"
)

// mailTime is how long the last mails may take.
const mailTime = 30 * time.Second

const mailsSQL = `select count(*) filter (where state = 'sent'), count(*) from mails`

// MailCount compares what notification-svc says it sent with what the mail
// server got.
type MailCount struct {
	Written, Sent, Got, Distinct int
	Err                          error
}

// OK says whether every mail was sent and came once.
func (m MailCount) OK() bool {
	return m.Err == nil && m.Written > 0 && m.Written == m.Sent && m.Sent == m.Got && m.Got == m.Distinct
}

// String is the line for the table.
func (m MailCount) String() string {
	if m.Err != nil {
		return m.Err.Error()
	}
	return fmt.Sprintf("%d written, %d sent, %d came to the mail server, %d of them distinct", m.Written, m.Sent, m.Got, m.Distinct)
}

// Mails waits until every mail was sent and counts them.
func Mails(ctx context.Context, s *stack.Stack) (m MailCount) {
	db, err := open(s.State().Database("notifications"))
	if err != nil {
		return MailCount{Err: err}
	}
	defer db.Close() //nolint:errcheck // it was only read
	for deadline := time.Now().Add(mailTime); ; time.Sleep(poll) {
		m = MailCount{}
		m.Err = db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			return tx.QueryRowContext(ctx, mailsSQL).Scan(&m.Sent, &m.Written)
		})
		mails, total := s.Mail.Mails()
		seen := map[string]bool{}
		for _, mail := range mails {
			seen[mail.ID] = true
		}
		m.Got, m.Distinct = total, len(seen)
		if m.OK() || ctx.Err() != nil || time.Now().After(deadline) {
			return m
		}
	}
}
