package notification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/failpoint"
	"pavane/shared/fault"
	"pavane/shared/postgres"
	"pavane/shared/retry"
	"pavane/shared/tracing"
)

const (
	claimLimit = 20                     // messages per claim, sent over one connection
	idlePause  = 500 * time.Millisecond // between looks for messages that nobody woke the sender for
	firstPause = time.Second            // after the first failure; doubles with each
	maxPause   = 5 * time.Minute
	sendTime   = 8 * time.Second // to connect, and for each message
	stopGrace  = 3 * time.Second // for the message in hand when the sender stops

	// holdTime is how long a claim lasts. No message is begun that might not be ended
	// within it. After a crash, the messages that were in hand wait that long.
	holdTime = 3 * sendTime
)

// Carrier opens connections to a receiver of messages.
type Carrier interface {
	// Open connects within the time of ctx. The connection takes any number of
	// messages, one at a time.
	Open(ctx context.Context) (Connection, error)
}

// Connection takes messages.
type Connection interface {
	// Send hands the message over. Nil means that the receiver took charge of it. A
	// fault of class Permanent means that it will not take this message, and
	// [ErrDeferred] that it will not yet; the connection is good for others then.
	Send(ctx context.Context, m Message) error
	// Close ends the connection.
	Close()
}

// ErrDeferred says that the server puts off the mail to this recipient: as one that
// it has not seen before (greylisting), or whose box is full.
var ErrDeferred = errors.New("the mail server takes no mail for this recipient now")

// postponed is a failure with which the receiver said when to come again.
type postponed struct {
	after time.Duration
	err   error
}

func (p *postponed) Error() string { return p.err.Error() }
func (p *postponed) Unwrap() error { return p.err }

// Sender hands the pending messages of one carrier to their receiver, each once
// per order and kind. Any number of senders may work on one database.
//
// One exception cannot be closed: neither SMTP nor a webhook has a way to ask
// whether a message was taken. A crash, or a lost database, after the receiver's
// 250 or 2xx and before the commit that notes it, sends the message once more; so
// does an answer that is lost on its way here. The mail then carries the same
// Message-ID, the webhook the same webhook-id, by which the receiver can drop the
// second.
type Sender struct {
	db      *postgres.DB
	queue   queue
	carrier Carrier
	logger  *slog.Logger
	tracer  *tracing.Tracer
	meters  *meters
	bell    retry.Bell
}

// NewMailSender returns a sender of mails; it works while [Sender.Run] runs. A nil
// tracer makes no spans, nil metrics are not shown.
func NewMailSender(db *postgres.DB, carrier Carrier, logger *slog.Logger, tracer *tracing.Tracer, metrics prometheus.Registerer) *Sender {
	return newSender(mails(), db, carrier, logger, tracer, metrics)
}

// NewWebhookSender returns a sender of webhooks, as [NewMailSender] does of mails.
func NewWebhookSender(db *postgres.DB, carrier Carrier, logger *slog.Logger, tracer *tracing.Tracer, metrics prometheus.Registerer) *Sender {
	return newSender(webhooks(), db, carrier, logger, tracer, metrics)
}

func newSender(q queue, db *postgres.DB, carrier Carrier, logger *slog.Logger, tracer *tracing.Tracer, metrics prometheus.Registerer) *Sender {
	return &Sender{
		db: db, queue: q, carrier: carrier, logger: logger.With("carrier", q.name), tracer: tracer,
		meters: newMeters(db, q, metrics), bell: retry.NewBell(),
	}
}

// Wake makes the sender look for messages now. It never blocks.
func (s *Sender) Wake() { s.bell.Ring() }

// Run sends until ctx ends and finishes the message in hand. It outlives every
// failure of database and receiver.
func (s *Sender) Run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		n, err := s.round(ctx)
		pause, bell := idlePause, s.bell
		switch {
		case err != nil && ctx.Err() == nil:
			failures++
			pause, bell = pauseAfter(err, failures), nil // more messages change nothing
			s.logger.WarnContext(ctx, "messages wait", "error", err, "retry_in", pause.Round(time.Millisecond))
		case n == claimLimit:
			failures, pause = 0, 0
		case n > 0:
			failures = 0
		}
		bell.Wait(ctx, pause)
	}
	return nil
}

// round claims some messages and delivers them. It returns how many were claimed.
func (s *Sender) round(ctx context.Context) (int, error) {
	// The claim must hold to the end of what is begun under it.
	held, cancel := context.WithTimeout(ctx, holdTime-2*sendTime)
	defer cancel()
	due, err := s.queue.claim(ctx, s.db, claimLimit, holdTime)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	if err := failpoint.Hit(ctx, "message.after_claim"); err != nil {
		return 0, err
	}
	// What is begun is ended and noted, within limits, also when ctx ends.
	work, stop := retry.Outlive(ctx, stopGrace)
	defer stop()
	proceed := func() bool { return held.Err() == nil }
	return len(due), s.deliver(work, due, proceed)
}

// deliver sends the messages over one connection for as long as proceed allows,
// and gives back those that it did not send.
func (s *Sender) deliver(ctx context.Context, due []claimed, proceed func() bool) error {
	limited, cancel := context.WithTimeout(ctx, sendTime)
	conn, err := s.carrier.Open(limited)
	cancel()
	if err != nil {
		s.meters.tried(err)
		return errors.Join(err, s.giveBack(ctx, due, err))
	}
	defer conn.Close()
	for i, m := range due {
		if !proceed() {
			return s.giveBack(ctx, due[i:], nil)
		}
		err := s.send(ctx, conn, m)
		switch {
		case err == nil:
		case fault.ClassOf(err) == fault.ClassPermanent:
			s.logger.WarnContext(ctx, "the receiver refuses a message", "order", m.OrderID, "kind", m.Kind, "attempts", m.Attempts, "error", err)
			if err := s.giveBack(ctx, due[i:i+1], err); err != nil {
				return err
			}
		case errors.Is(err, ErrDeferred):
			if err := s.giveBack(ctx, due[i:i+1], err); err != nil {
				return err
			}
		default: // the state of the connection is unknown; the others go over a new one
			return errors.Join(err, s.giveBack(ctx, due[i:i+1], err), s.giveBack(ctx, due[i+1:], nil))
		}
	}
	return nil
}

// send sends one message and notes it.
func (s *Sender) send(ctx context.Context, conn Connection, m claimed) (err error) {
	ctx, span := s.tracer.Work(ctx, m.TraceParent, "send "+s.queue.name+" "+string(m.Kind), m.OrderID)
	defer func() {
		span.End(err)
		s.meters.tried(err)
	}()
	limited, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	if err := failpoint.Hit(ctx, "message.before_send"); err != nil {
		return err
	}
	if err := conn.Send(limited, m.Message); err != nil {
		return fmt.Errorf("%s %s of order %s: %w", s.queue.name, m.Kind, m.OrderID, err)
	}
	if err := failpoint.Hit(ctx, "message.after_send"); err != nil {
		return err
	}
	if err := s.queue.markSent(ctx, s.db, m); err != nil {
		return err
	}
	return failpoint.Hit(ctx, "message.after_note")
}

// giveBack ends the claims: at once for messages that were not tried (reason nil),
// else after a pause that grows with the attempts. A message that the receiver
// refuses for good waits the longest pause at once and is tried for ever all the
// same: the reason may lie in the receiver's set-up, and nothing is dropped.
func (s *Sender) giveBack(ctx context.Context, due []claimed, reason error) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, m := range due {
		pause, words := time.Duration(0), ""
		if reason != nil {
			pause, words = pauseAfter(reason, m.Attempts), retry.Text(reason.Error())
		}
		refused := fault.ClassOf(reason) == fault.ClassPermanent
		if refused {
			pause = maxPause
		}
		errs = append(errs, s.queue.putOff(ctx, s.db, m, pause, words, refused))
	}
	return errors.Join(errs...)
}

// pauseAfter is how long to wait after so many failures in a row, the last of which
// is err: longer where the receiver asked for it, but never longer than maxPause.
func pauseAfter(err error, failures int) time.Duration {
	pause := retry.Pause(failures, firstPause, maxPause)
	var p *postponed
	if errors.As(err, &p) {
		pause = min(max(pause, p.after), maxPause)
	}
	return pause
}
