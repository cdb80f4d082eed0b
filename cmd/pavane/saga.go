package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/broker"
	"pavane/shared/config"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/postgres"
	"pavane/shared/service"
	"pavane/shared/story"
)

func sagaCommand() *cobra.Command {
	c := &cobra.Command{Use: "saga", Short: "Look at sagas"}
	c.AddCommand(sagaShowCommand(), sagaListCommand())
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
them, what is parked, and what is still to come. It reads what the services keep
anyway.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if partitions < 1 && c.Flags().Changed("partitions") {
				return fmt.Errorf("--partitions %d: want those of each topic, from 1 on", partitions)
			}
			if err := t.resolve(false, true, false); err != nil {
				return err
			}
			n, err := t.partitions(c.Context(), partitions)
			if err != nil {
				return err
			}
			return sagaShow(c.Context(), c.OutOrStdout(), args[0], n, t.places())
		},
	}
	t.flags(c)
	c.Flags().IntVar(&partitions, "partitions", 0, "partitions of each topic; without it Kafka is asked, and where none is known, PAVANE_PARTITIONS counts")
	return c
}

// partitions is how many each topic has, from which follows where an event lies:
// what Kafka says, else the flag, else what the services are told. 0 is no flag.
func (t *target) partitions(ctx context.Context, flag int) (int, error) {
	topic := t.namespace + contract.Topics()["order"]
	have, err := t.count(ctx, topic)
	switch {
	case err != nil:
		return 0, err
	case have > 0 && flag > 0 && have != flag:
		return 0, fmt.Errorf("--partitions %d: topic %s has %d; leave the flag out", flag, topic, have)
	case have > 0:
		return have, nil
	case flag > 0:
		return flag, nil
	}
	var cfg struct {
		Partitions int `default:"6"`
	}
	if err := config.Load(service.Prefix, &cfg); err != nil {
		return 0, err
	}
	if cfg.Partitions < 1 {
		return 0, fmt.Errorf("%s_PARTITIONS=%d: want those of each topic, from 1 on", service.Prefix, cfg.Partitions)
	}
	return cfg.Partitions, nil
}

// count asks Kafka how many partitions a topic has; 0: no Kafka is known, or it
// does not answer, and the story is told all the same.
func (t *target) count(ctx context.Context, topic string) (int, error) {
	if len(t.kafka) == 0 {
		return 0, nil
	}
	security, err := kafkaSecurity()
	if err != nil {
		return 0, err
	}
	client, err := broker.Dial(security.Secure(broker.Config{Brokers: t.kafka, ClientID: "pavane-tool"}))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ranges, err := client.Offsets(ctx, topic)
	if errors.Is(err, broker.ErrUnavailable) {
		return 0, nil
	}
	return len(ranges[topic]), err
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
	if loaded != nil {
		return loaded
	}
	return tellWhatIsToCome(ctx, out, order, all)
}

// tellWhatIsToCome says what the order waits for, or that it waits for nothing.
func tellWhatIsToCome(ctx context.Context, out io.Writer, order string, all []place) error {
	open, err := loadOpen(ctx, all, order)
	if err != nil {
		return err
	}
	text := "nothing: the saga has ended"
	if len(open) > 0 {
		text = strings.Join(open[0].Waits, "; ")
	}
	if _, err := fmt.Fprintf(out, "\nstill to come: %s\n", text); err != nil {
		return fmt.Errorf("write the story: %w", err)
	}
	return nil
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
	begin, known := beginOf(events, stories)
	if !known {
		return fmt.Errorf("nobody knows order %s: give the whole id, as the gateway answered it", order)
	}
	since, what := keptSince(stories), "placed"
	if !since.IsZero() {
		what = "the first trace left is of"
	}
	fmt.Fprintf(w, "order %s, %s %s\n", order, what, begin.Local().Format("2006-01-02 15:04:05.000"))
	if !since.IsZero() {
		fmt.Fprintf(w, "Events from before %s are gone: the outboxes keep them no longer.\n", since.Local().Format("2006-01-02 15:04:05"))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	writeEvents(t, events, begin)
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

// beginOf is when the order was heard of first, as far as anybody remembers: its
// first event, or where none is left, the first trace of one in another service.
func beginOf(events []told, stories map[string]story.Story) (begin time.Time, known bool) {
	if len(events) > 0 {
		return events[0].CreatedAt, true
	}
	var traces []time.Time
	for _, s := range stories {
		for _, a := range s.Applied {
			traces = append(traces, a.AppliedAt)
		}
		for _, p := range s.Parked {
			traces = append(traces, p.ParkedAt)
		}
	}
	if len(traces) == 0 {
		return time.Time{}, false
	}
	return slices.MinFunc(traces, time.Time.Compare), true
}

// keptSince says since when events are kept where some of this order are not there
// any more: a service has applied more than their publisher has left. Else it is
// zero.
func keptSince(stories map[string]story.Story) (latest time.Time) {
	for _, s := range stories {
		for _, a := range s.Applied {
			by := stories[strings.TrimPrefix(a.Source, "/")]
			whole := len(by.Written) > 0 && by.Written[0].Sequence == 1
			if since := by.KeptSince; !whole && since != nil && since.After(latest) {
				latest = *since
			}
		}
	}
	return latest
}

func writeEvents(t io.Writer, events []told, begin time.Time) {
	if len(events) == 0 {
		return
	}
	kinds := map[string]string{}
	for _, e := range events {
		kinds[e.ID] = e.Kind
	}
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
