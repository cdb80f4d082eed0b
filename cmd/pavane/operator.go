package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/broker"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// place is where a service's database is.
type place struct{ service, name, url string }

// look is what a command does with one service's database.
type look func(ctx context.Context, service string, db *postgres.DB) error

// perDatabase opens each database in turn and has f look at it. One that fails
// hides no other: an unreadError names them all in the end.
func perDatabase(ctx context.Context, all []place, f look) error {
	var failed []failure
	for _, p := range all {
		err := p.open(ctx, f)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = append(failed, failure{p.service, err})
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &unreadError{failed}
}

func (p place) open(ctx context.Context, f look) error {
	db, err := postgres.Open(postgres.Config{URL: p.url, MaxConns: 1, Name: "pavane-tool"})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // what was to be kept is committed
	if err = f(ctx, p.service, db); err == nil {
		return nil
	}
	if away := db.Ping(ctx); away != nil {
		return fmt.Errorf("not reachable: %w", away)
	}
	return fmt.Errorf("database %s: %w", p.name, err)
}

// failure is why nothing is known of a service.
type failure struct {
	service string
	err     error
}

// unreadError says of which services nothing is known, a line for each.
type unreadError struct{ failed []failure }

func (e *unreadError) Error() string {
	lines := make([]string, 0, len(e.failed))
	for _, f := range e.failed {
		lines = append(lines, f.service+": "+f.err.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap is for [errors.Is].
func (e *unreadError) Unwrap() []error {
	all := make([]error, 0, len(e.failed))
	for _, f := range e.failed {
		all = append(all, f.err)
	}
	return all
}

// unread takes the services that failed out of what perDatabase returned. Any
// other error ends a command.
func unread(err error) ([]failure, error) {
	var some *unreadError
	if errors.As(err, &some) {
		return some.failed, nil
	}
	return nil, err
}

func outboxCommand() *cobra.Command {
	var t target
	c := &cobra.Command{Use: "outbox", Short: "Look at the outboxes, and publish from them again"}
	status := &cobra.Command{
		Use:   "status",
		Short: "Show what waits to be published, and how far each relay is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := t.resolve(false, true, false); err != nil {
				return err
			}
			return outboxStatus(c.Context(), c.OutOrStdout(), t.places())
		},
	}
	t.flags(status)
	c.AddCommand(status, replayCommand(), adoptCommand())
	return c
}

// outboxStatus prints a line for each service that can be asked.
func outboxStatus(ctx context.Context, out io.Writer, all []place) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "service\twaiting\toldest\tparked keys\tchunk\trows in it\tplanned\tin the log")
	failed := perDatabase(ctx, all, func(ctx context.Context, service string, db *postgres.DB) error {
		line, err := outboxLine(ctx, db)
		if err == nil {
			fmt.Fprintf(w, "%s\t%s\n", service, line)
		}
		return err
	})
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	return failed
}

func adoptCommand() *cobra.Command {
	var t target
	c := &cobra.Command{
		Use:   "adopt SERVICE",
		Short: "Go on from where a service's database is, though it was restored",
		Long: `After a database was restored to an earlier time, or a standby took over without
the last commits, the service's relay refuses: Kafka holds events that the
database does not know. It refuses a database from another cluster, too. Stop the
service, compare with pavane audit, and settle what differs.

This command then has the relay go on under a new producer id, so that Kafka takes
no new event for a copy. What is in the log stays there. A chunk that was on its
way comes once more; from another cluster, all that the outbox retains. An inbox
drops what it meets twice.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := t.resolve(false, true, true); err != nil {
				return err
			}
			p, err := adopt(c.Context(), t, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: the relay goes on under producer %d\n", args[0], p.ID)
			return nil
		},
	}
	t.flags(c)
	return c
}

func adopt(ctx context.Context, t target, service string) (p broker.Producer, err error) {
	names := serviceNames()
	if !slices.Contains(names, service) {
		return p, fmt.Errorf("service %q: choose one of %s", service, strings.Join(names, ", "))
	}
	client, err := broker.Dial(t.security.Secure(broker.Config{Brokers: t.kafka, ClientID: "pavane-tool"}))
	if err != nil {
		return p, err
	}
	defer client.Close()
	err = perDatabase(ctx, t.places(), func(ctx context.Context, of string, db *postgres.DB) (err error) {
		if of == service {
			p, err = adoptUnder(ctx, db, client.InitProducer)
		}
		return err
	})
	return p, err
}

// maxSpent is more than the producer ids that one journal can have used while it
// is kept: there is one for each adoption.
const maxSpent = 1000

// adoptUnder has an outbox go on under the first producer id that its journal has
// not used. A Kafka that was emptied gives them out from the start.
func adoptUnder(ctx context.Context, db *postgres.DB, next func(context.Context) (broker.Producer, error)) (p broker.Producer, err error) {
	for range maxSpent {
		if p, err = next(ctx); err != nil {
			return p, err
		}
		if err = relay.Adopt(ctx, db, p); !errors.Is(err, relay.ErrSpent) {
			return p, err
		}
	}
	return p, fmt.Errorf("asked Kafka for %d producer ids: %w", maxSpent, err)
}

const headSQL = `select j.chunk, j.row_count, j.planned_at, a.chunk is not null
from relay_journal j left join relay_ack a on a.chunk = j.chunk order by j.chunk desc limit 1`

func outboxLine(ctx context.Context, db *postgres.DB) (string, error) {
	b, err := relay.LoadBacklog(ctx, db)
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("%d\t%s\t%d", b.Rows, b.Oldest.Round(time.Millisecond), b.Parked)
	rows, err := db.SQL().QueryContext(ctx, headSQL)
	if err != nil {
		return "", fmt.Errorf("read the journal: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err says it
	if !rows.Next() {
		return line + "\t-\t-\t-\t-", rows.Err()
	}
	var chunk, count int64
	var planned time.Time
	var acked bool
	if err := rows.Scan(&chunk, &count, &planned, &acked); err != nil {
		return "", fmt.Errorf("read the journal: %w", err)
	}
	in := "not yet"
	if acked {
		in = "yes"
	}
	return fmt.Sprintf("%s\t%d\t%d\t%s\t%s", line, chunk, count, planned.Local().Format(time.DateTime), in), rows.Err()
}
