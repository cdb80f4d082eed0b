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
	claimLimit = 20                     // mails per claim, sent over one connection
	idlePause  = 500 * time.Millisecond // between looks for mails that nobody woke the sender for
	firstPause = time.Second            // after the first failure; doubles with each
	maxPause   = 5 * time.Minute
	sendTime   = 8 * time.Second // to connect, and for each mail
	stopGrace  = 3 * time.Second // for the mail in hand when the sender stops

	// holdTime is how long a claim lasts. No mail is begun that might not be ended
	// within it. After a crash, the mails that were in hand wait that long.
	holdTime = 3 * sendTime
)

// Carrier opens connections to a mail server.
type Carrier interface {
	// Open connects within the time of ctx. The connection takes any number of
	// mails, one at a time.
	Open(ctx context.Context) (Connection, error)
}

// Connection takes mails.
type Connection interface {
	// Send hands the mail over. Nil means that the server took charge of it. A
	// fault of class Permanent means that it will not take this mail, and
	// [ErrDeferred] that it will not yet; the connection is good for others then.
	Send(ctx context.Context, m Mail) error
	// Close ends the connection.
	Close()
}

// ErrDeferred says that the server puts off the mail to this recipient: as one that
// it has not seen before (greylisting), or whose box is full.
var ErrDeferred = errors.New("the mail server takes no mail for this recipient now")

// Sender hands the pending mails to a mail server, each once per order and kind.
// Any number of senders may work on one database.
//
// One exception cannot be closed: SMTP has no way to ask whether a mail was
// taken. A crash, or a lost database, after the server's 250 and before the
// commit that notes it, sends the mail once more; so does an answer that is
// lost on its way here. The mail then carries the same Message-ID, by which the
// receiver can drop the second.
type Sender struct {
	db      *postgres.DB
	carrier Carrier
	logger  *slog.Logger
	tracer  *tracing.Tracer
	meters  *meters
	bell    retry.Bell
}

// NewSender returns a sender; it works while [Sender.Run] runs. A nil tracer
// makes no spans, nil metrics are not shown.
func NewSender(db *postgres.DB, carrier Carrier, logger *slog.Logger, tracer *tracing.Tracer, metrics prometheus.Registerer) *Sender {
	return &Sender{db: db, carrier: carrier, logger: logger, tracer: tracer, meters: newMeters(db, metrics), bell: retry.NewBell()}
}

// Wake makes the sender look for mails now. It never blocks.
func (s *Sender) Wake() { s.bell.Ring() }

// Run sends until ctx ends and finishes the mail in hand. It outlives every
// failure of database and mail server.
func (s *Sender) Run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		n, err := s.round(ctx)
		pause, bell := idlePause, s.bell
		switch {
		case err != nil && ctx.Err() == nil:
			failures++
			pause, bell = retry.Pause(failures, firstPause, maxPause), nil // more mails change nothing
			s.logger.WarnContext(ctx, "mails wait", "error", err, "retry_in", pause.Round(time.Millisecond))
		case n == claimLimit:
			failures, pause = 0, 0
		case n > 0:
			failures = 0
		}
		bell.Wait(ctx, pause)
	}
	return nil
}

// round claims some mails and delivers them. It returns how many were claimed.
func (s *Sender) round(ctx context.Context) (int, error) {
	// The claim must hold to the end of what is begun under it.
	held, cancel := context.WithTimeout(ctx, holdTime-2*sendTime)
	defer cancel()
	mails, err := claim(ctx, s.db, claimLimit, holdTime)
	if err != nil || len(mails) == 0 {
		return 0, err
	}
	if err := failpoint.Hit(ctx, "mail.after_claim"); err != nil {
		return 0, err
	}
	// What is begun is ended and noted, within limits, also when ctx ends.
	work, stop := retry.Outlive(ctx, stopGrace)
	defer stop()
	proceed := func() bool { return held.Err() == nil }
	return len(mails), s.deliver(work, mails, proceed)
}

// deliver sends the mails over one connection for as long as proceed allows,
// and gives back those that it did not send.
func (s *Sender) deliver(ctx context.Context, mails []claimed, proceed func() bool) error {
	limited, cancel := context.WithTimeout(ctx, sendTime)
	conn, err := s.carrier.Open(limited)
	cancel()
	if err != nil {
		s.meters.tried(err)
		return errors.Join(err, s.giveBack(ctx, mails, err))
	}
	defer conn.Close()
	for i, m := range mails {
		if !proceed() {
			return s.giveBack(ctx, mails[i:], nil)
		}
		err := s.send(ctx, conn, m)
		switch {
		case err == nil:
		case fault.ClassOf(err) == fault.ClassPermanent:
			s.logger.WarnContext(ctx, "the mail server refuses a mail", "order", m.OrderID, "kind", m.Kind, "attempts", m.Attempts, "error", err)
			if err := s.giveBack(ctx, mails[i:i+1], err); err != nil {
				return err
			}
		case errors.Is(err, ErrDeferred):
			if err := s.giveBack(ctx, mails[i:i+1], err); err != nil {
				return err
			}
		default: // the state of the connection is unknown; the others go over a new one
			return errors.Join(err, s.giveBack(ctx, mails[i:i+1], err), s.giveBack(ctx, mails[i+1:], nil))
		}
	}
	return nil
}

// send sends one mail and notes it.
func (s *Sender) send(ctx context.Context, conn Connection, m claimed) (err error) {
	ctx, span := s.tracer.Work(ctx, m.TraceParent, "send mail "+string(m.Kind), m.OrderID)
	defer func() {
		span.End(err)
		s.meters.tried(err)
	}()
	limited, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	if err := failpoint.Hit(ctx, "mail.before_send"); err != nil {
		return err
	}
	if err := conn.Send(limited, m.Mail); err != nil {
		return fmt.Errorf("mail %s of order %s: %w", m.Kind, m.OrderID, err)
	}
	if err := failpoint.Hit(ctx, "mail.after_send"); err != nil {
		return err
	}
	if err := markSent(ctx, s.db, m); err != nil {
		return err
	}
	return failpoint.Hit(ctx, "mail.after_note")
}

// giveBack ends the claims: at once for mails that were not tried (reason nil),
// else after a pause that grows with the attempts. A mail that the server
// refuses for good waits the longest pause at once and is tried for ever all the
// same: the reason may lie in the server's set-up, and nothing is dropped.
func (s *Sender) giveBack(ctx context.Context, mails []claimed, reason error) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, m := range mails {
		pause, words := time.Duration(0), ""
		if reason != nil {
			pause, words = retry.Pause(m.Attempts, firstPause, maxPause), retry.Text(reason.Error())
		}
		refused := fault.ClassOf(reason) == fault.ClassPermanent
		if refused {
			pause = maxPause
		}
		errs = append(errs, putOff(ctx, s.db, m, pause, words, refused))
	}
	return errors.Join(errs...)
}
