package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/story"
)

func sagaCommand() *cobra.Command {
	c := &cobra.Command{Use: "saga", Short: "Look at one saga"}
	c.AddCommand(sagaShowCommand())
	return c
}

func sagaShowCommand() *cobra.Command {
	var t target
	var partitions int
	c := &cobra.Command{
		Use:   "show ORDER",
		Short: "Tell the story of one order across all services",
		Long: `Tells which events the order has caused, in which service, how long each took
to reach the log and where it lies there, how far each service has applied
them, and what is parked. It reads what the services keep anyway.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if partitions < 1 {
				return fmt.Errorf("--partitions %d: want those of each topic, from 1 on", partitions)
			}
			if err := t.resolve(false, true, false); err != nil {
				return err
			}
			return sagaShow(c.Context(), c.OutOrStdout(), args[0], partitions, places(t.postgres))
		},
	}
	t.flags(c)
	c.Flags().IntVar(&partitions, "partitions", 6, "partitions of each topic")
	return c
}

// sagaShow tells what those services know that can be asked.
func sagaShow(ctx context.Context, out io.Writer, order string, partitions int, all []place) error {
	stories := map[string]story.Story{}
	loaded := perDatabase(ctx, all, func(ctx context.Context, service string, db *postgres.DB) error {
		s, err := story.Load(ctx, db, order, partitions)
		if err == nil {
			stories[service] = s
		}
		return err
	})
	if _, err := unread(loaded); err != nil {
		return err
	}
	if err := tell(out, order, stories); err != nil && loaded == nil {
		return err
	}
	return loaded
}

// told is one event with the service that wrote it.
type told struct {
	service string
	story.Written
}

func (e told) position() event.Position {
	return event.Position{Service: e.service, Sequence: e.Sequence, ID: e.ID, CausationID: e.CausationID, CreatedAt: e.CreatedAt}
}

// inOrder joins what the services wrote.
func inOrder(stories map[string]story.Story) []told {
	var all []told
	for name, s := range stories {
		for _, w := range s.Written {
			all = append(all, told{name, w})
		}
	}
	return event.InOrder(all, told.position)
}

// tell writes the story as text.
func tell(w io.Writer, order string, stories map[string]story.Story) error {
	events := inOrder(stories)
	if len(events) == 0 {
		return fmt.Errorf("nobody knows order %s: give the whole id, as the gateway answered it", order)
	}
	kinds := map[string]string{}
	for _, e := range events {
		kinds[e.ID] = e.Kind
	}
	begin := events[0].CreatedAt
	fmt.Fprintf(w, "order %s, placed %s\n\n", order, begin.Local().Format("2006-01-02 15:04:05.000"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "at\tservice\tevent\tbecause of\tin the log after\twhere")
	for _, e := range events {
		because, where := "-", "-"
		if e.CausationID != "" {
			because = orElse(kinds[e.CausationID], e.CausationID)
		}
		if e.Offset != nil {
			where = fmt.Sprintf("%s/%d@%d", e.Topic, e.Partition, *e.Offset)
		}
		fmt.Fprintf(t, "+%s\t%s\t#%d %s\t%s\t%s\t%s\n", ms(e.CreatedAt.Sub(begin)), e.service, e.Sequence, e.Kind, because, since(e.CreatedAt, e.AckedAt), where)
	}
	fmt.Fprintln(t)
	names := slices.Sorted(maps.Keys(stories))
	for _, name := range names {
		for _, a := range stories[name].Applied {
			fmt.Fprintf(t, "+%s\t%s\thas applied %s up to #%d\n", ms(a.AppliedAt.Sub(begin)), name, a.Source, a.LastSequence)
		}
	}
	for _, name := range names {
		for _, p := range stories[name].Parked {
			fmt.Fprintf(t, "parked\t%s\t#%d %s of %s\t%s: %s\n", name, p.Sequence, p.Kind, p.Source, p.Cause, p.Reason)
		}
	}
	return t.Flush()
}

func since(from time.Time, to *time.Time) string {
	if to == nil {
		return "not yet"
	}
	return ms(to.Sub(from))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
