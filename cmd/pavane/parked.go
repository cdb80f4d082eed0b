package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/inbox"
	"pavane/shared/parked"
	"pavane/shared/postgres"
)

func parkedCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "parked",
		Short: "Look at the keys that wait for somebody, and move them on",
		Long: `A record that cannot be handled waits with all that follows it on its key; every
other key goes on. This shows what waits, in which service and why, and lets it
go once the cause is mended.`,
	}
	c.AddCommand(parkedListCommand(), parkedShowCommand(), parkedMoveCommand(parked.Redrive), parkedMoveCommand(parked.Discard))
	return c
}

// choice is which keys of which services a command is about.
type choice struct {
	target
	service, cause, key, source string
}

func (h *choice) flags(c *cobra.Command) {
	h.target.flags(c)
	f := c.Flags()
	f.StringVar(&h.service, "service", "", "only this service, such as payment-svc")
	f.StringVar(&h.cause, "cause", "", "only this cause: "+causes())
	f.StringVar(&h.source, "source", "", "only keys of this publisher, such as /order-svc")
}

func causes() string {
	names := make([]string, 0, len(parked.Causes()))
	for _, c := range parked.Causes() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

// check refuses names that nothing can have, before anything is opened.
func (h *choice) check() error {
	if h.cause != "" && !slices.Contains(parked.Causes(), inbox.Cause(h.cause)) {
		return fmt.Errorf("--cause %q: choose one of %s", h.cause, causes())
	}
	names := serviceNames()
	if h.service != "" && !slices.Contains(names, h.service) {
		return fmt.Errorf("--service %q: choose one of %s", h.service, strings.Join(names, ", "))
	}
	return h.resolve(false, true, false)
}

// found is a parked key with the service in which it waits.
type found struct {
	Service string `json:"service"`
	parked.Key
}

// each opens the database of each chosen service in turn.
func (h *choice) each(ctx context.Context, f look) error {
	return perDatabase(ctx, h.places(), func(ctx context.Context, service string, db *postgres.DB) error {
		if h.service != "" && h.service != service {
			return nil
		}
		return f(ctx, service, db)
	})
}

func (h *choice) filter() parked.Filter {
	f := parked.Filter{Cause: inbox.Cause(h.cause), Source: h.source}
	if h.key != "" {
		f.Key = &h.key
	}
	return f
}

func (h *choice) find(ctx context.Context) ([]found, error) {
	all := []found{}
	err := h.each(ctx, func(ctx context.Context, service string, db *postgres.DB) error {
		keys, err := parked.List(ctx, db, h.filter())
		for _, k := range keys {
			all = append(all, found{service, k})
		}
		return err
	})
	return all, err
}

// group is what waits in one service for one cause.
type group struct {
	Service string      `json:"service"`
	Cause   inbox.Cause `json:"cause"`
	Count   int         `json:"count"`
	Oldest  time.Time   `json:"oldest,omitzero"`
	Keys    []found     `json:"keys"`
	Error   string      `json:"error,omitempty"` // why nothing is known of the service
}

func groups(keys []found) []group {
	list := []group{}
	for _, k := range keys {
		n := len(list)
		if n == 0 || list[n-1].Service != k.Service || list[n-1].Cause != k.Cause {
			list = append(list, group{Service: k.Service, Cause: k.Cause, Oldest: k.Since})
			n++
		}
		g := &list[n-1]
		g.Count, g.Keys = g.Count+1, append(g.Keys, k)
		if k.Since.Before(g.Oldest) {
			g.Oldest = k.Since
		}
	}
	return list
}

func parkedListCommand() *cobra.Command {
	var h choice
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the keys that wait, by service and cause, since when and why",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return fmt.Errorf("--limit %d: want keys from 0 on", limit)
			}
			if err := h.check(); err != nil {
				return err
			}
			keys, asked := h.find(c.Context())
			failed, err := unread(asked)
			if err != nil {
				return err
			}
			return errors.Join(printParked(c.OutOrStdout(), groups(keys), failed, limit, asJSON), asked)
		},
	}
	h.flags(c)
	c.Flags().StringVar(&h.key, "key", "", "only this key")
	c.Flags().IntVar(&limit, "limit", 20, "keys shown of each service and cause; all are counted")
	c.Flags().BoolVar(&asJSON, "json", false, "print all keys as JSON")
	return c
}

// printParked prints what is known. As JSON it says of which services nothing is.
func printParked(w io.Writer, list []group, failed []failure, limit int, asJSON bool) error {
	switch {
	case asJSON:
		for _, f := range failed {
			list = append(list, group{Service: f.service, Keys: []found{}, Error: f.err.Error()})
		}
		return printJSON(w, list)
	case len(list) == 0 && len(failed) > 0:
		return nil // it may be parked where nobody could look
	}
	return printGroups(w, list, limit)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func printGroups(w io.Writer, list []group, limit int) error {
	if len(list) == 0 {
		fmt.Fprintln(w, "nothing is parked")
	}
	for _, g := range list {
		fmt.Fprintf(w, "%s: %s: %s, since %s\n", g.Service, g.Cause, count(g.Count, "key"), g.Oldest.Local().Format(time.DateTime))
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  key\tfrom\tapplied\tstuck at\twaiting\tsince\treason")
		for _, k := range g.Keys[:min(limit, len(g.Keys))] {
			waiting := "-"
			if k.Records > 0 {
				waiting = fmt.Sprint(k.Records)
			}
			fmt.Fprintf(t, "  %s\t%s\t#%d\t#%d %s\t%s\t%s\t%s\n", printable(k.Key.Key), orElse(k.Source, "itself"), k.Last, k.Sequence, printable(k.Kind),
				waiting, k.Since.Local().Format(time.DateTime), printable(k.Reason))
		}
		if more := len(g.Keys) - limit; more > 0 {
			fmt.Fprintf(t, "  … and %d more\n", more)
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printable keeps what a stranger wrote from moving the terminal's cursor, and
// on one line of bearable length.
func printable(s string) string {
	const limit = 160
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return orElse(s, `""`)
}

// osUser is who is named in the audit trail unless told otherwise.
func osUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
