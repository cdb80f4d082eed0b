package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/parked"
	"pavane/shared/postgres"
)

// shownKey is all that one service knows of a parked key.
type shownKey struct {
	Service string          `json:"service"`
	Records []parked.Record `json:"records"`
	History []parked.Move   `json:"history"`
	Error   string          `json:"error,omitempty"` // why nothing is known of the service
}

func parkedShowCommand() *cobra.Command {
	var h choice
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "Show the records of a key that wait, and what operators did with it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := h.check(); err != nil {
				return err
			}
			list := []shownKey{}
			shown := h.each(c.Context(), func(ctx context.Context, service string, db *postgres.DB) error {
				records, history, err := parked.Show(ctx, db, args[0], limit)
				if len(records)+len(history) > 0 {
					list = append(list, shownKey{Service: service, Records: records, History: history})
				}
				return err
			})
			failed, err := unread(shown)
			switch {
			case err != nil:
				return err
			case asJSON:
				for _, f := range failed {
					list = append(list, shownKey{Service: f.service, Records: []parked.Record{}, History: []parked.Move{}, Error: f.err.Error()})
				}
				return errors.Join(printJSON(c.OutOrStdout(), list), shown)
			case len(list) == 0 && shown == nil:
				return fmt.Errorf("key %q is not parked and never was; pavane parked list shows what is", args[0])
			}
			printKey(c.OutOrStdout(), list)
			return shown
		},
	}
	h.target.flags(c)
	c.Flags().StringVar(&h.service, "service", "", "only this service, such as payment-svc")
	c.Flags().IntVar(&limit, "limit", 100, "records shown of each service")
	c.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return c
}

func printKey(w io.Writer, list []shownKey) {
	for _, k := range list {
		fmt.Fprintf(w, "%s: %s wait\n", k.Service, count(len(k.Records), "record"))
		for _, r := range k.Records {
			printRecord(w, r)
		}
		for _, m := range k.History {
			fmt.Fprintf(w, "  %s %s by %s: %s (%s)\n", m.At.Local().Format(time.DateTime), m.Action, printable(m.Who), printable(m.Why), count(m.Records, "record"))
		}
	}
}

func printRecord(w io.Writer, r parked.Record) {
	where := r.Topic
	if r.Offset >= 0 {
		where = fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
	}
	fmt.Fprintf(w, "  #%d %s of %s at %s, since %s\n", r.Sequence, printable(r.Kind), orElse(r.Source, "itself"), where, r.Since.Local().Format(time.DateTime))
	fmt.Fprintf(w, "    %s", r.Cause)
	if r.Attempts > 0 {
		fmt.Fprintf(w, ", %s", count(r.Attempts, "attempt"))
	}
	fmt.Fprintf(w, ": %s\n", printable(strings.SplitN(r.Reason, "\n", 2)[0]))
	for _, h := range r.Headers {
		fmt.Fprintf(w, "    %s: %s\n", printable(h.Key), printable(h.Value))
	}
	fmt.Fprintf(w, "    %s\n", printable(r.Payload))
}
