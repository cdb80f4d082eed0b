package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/stack"
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
	c.AddCommand(status, replayCommand())
	return c
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
