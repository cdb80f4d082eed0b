package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/broker"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// perDatabase opens each service's database in turn and has f look at it.
func perDatabase(ctx context.Context, server string, f func(ctx context.Context, service string, db *postgres.DB) error) error {
	for _, svc := range stack.Databases() {
		db, err := postgres.Open(postgres.Config{URL: stack.DatabaseURL(server, svc.Name), MaxConns: 1, Name: "pavane-tool"})
		if err != nil {
			return err
		}
		err = f(ctx, svc.Service, db)
		db.Close() //nolint:errcheck // it was only read
		if err != nil {
			return fmt.Errorf("%s: database %s: %w", svc.Service, svc.Name, err)
		}
	}
	return nil
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
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "service\twaiting\toldest\tparked keys\tchunk\trows in it\tplanned\tin the log")
			err := perDatabase(c.Context(), t.postgres, func(ctx context.Context, service string, db *postgres.DB) error {
				line, err := outboxLine(ctx, db)
				fmt.Fprintf(w, "%s\t%s\n", service, line)
				return err
			})
			if err != nil {
				return err
			}
			return w.Flush()
		},
	}
	t.flags(status)
	c.AddCommand(status, replayCommand(), adoptCommand())
	return c
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
	var names []string
	for _, svc := range stack.Databases() {
		names = append(names, svc.Service)
	}
	if !slices.Contains(names, service) {
		return p, fmt.Errorf("service %q: choose one of %s", service, strings.Join(names, ", "))
	}
	client, err := broker.Dial(t.security.Secure(broker.Config{Brokers: t.kafka, ClientID: "pavane-tool"}))
	if err != nil {
		return p, err
	}
	defer client.Close()
	err = perDatabase(ctx, t.postgres, func(ctx context.Context, of string, db *postgres.DB) (err error) {
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
