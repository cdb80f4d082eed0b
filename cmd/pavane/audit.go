package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"pavane/internal/audit"
)

// shown is how many differences are printed.
const shown = 20

func auditCommand() *cobra.Command {
	var t target
	var settle time.Duration
	var atOnce int
	var asJSON bool
	c := &cobra.Command{
		Use:   "audit",
		Short: "Compare all databases with the log and name every difference",
		Long: `Reads each service's database and the whole log, and checks: ` + promises() + `

Exits with status 1 when there is a difference.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if atOnce < 1 {
				return fmt.Errorf("--at-once %d: want how many orders to look at at a time, from 1 on", atOnce)
			}
			if err := t.resolve(false, true, true); err != nil {
				return err
			}
			src := t.source()
			src.AtOnce = atOnce
			src.Progress = func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) }
			v, err := audit.Run(c.Context(), src, settle)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(v); err != nil {
					return fmt.Errorf("write the verdict: %w", err)
				}
			} else {
				printVerdict(c.OutOrStdout(), v)
			}
			if !v.Clean {
				return errVerdict
			}
			return nil
		},
	}
	t.flags(c)
	c.Flags().DurationVar(&settle, "settle", 10*time.Second, "how long events may be on their way: differences are looked at again, and what is younger is not judged")
	c.Flags().IntVar(&atOnce, "at-once", 100000, "how many orders to look at at a time, each in about 5 KB of memory; everything is read once for each such part")
	c.Flags().BoolVar(&asJSON, "json", false, "print the verdict as JSON")
	return c
}

// source is what the audit of the target reads.
func (t *target) source() audit.Source {
	return audit.Source{Postgres: t.postgres, Databases: t.databases, Kafka: t.kafka, Security: t.security, Namespace: t.namespace, Provider: t.provider}
}

func promises() string {
	text := ""
	for _, c := range audit.Checks() {
		text += fmt.Sprintf("\n  %-14s %s", c.Name, c.Promise)
	}
	return text
}

func printVerdict(w io.Writer, v audit.Verdict) {
	for i, d := range v.Differences {
		if i == shown {
			fmt.Fprintf(w, "… and %d more\n", len(v.Differences)-shown)
			break
		}
		fmt.Fprintf(w, "%-14s %s\n", d.Check, d.Text)
	}
	verdict := "clean"
	if !v.Clean {
		verdict = fmt.Sprintf("%d differences", len(v.Differences))
	}
	fmt.Fprintf(w, "audit: %s: %d orders, %d events committed, %d records in the log, %d checks, %.1f s\n",
		verdict, v.Orders, v.Events, v.Records, len(audit.Checks()), v.Seconds)
	if v.Provider {
		fmt.Fprintf(w, "audit: the card provider's own ledger has %d charges\n", v.Charges)
	} else {
		fmt.Fprintln(w, "audit: the card provider's own ledger was not looked at; name it by --provider")
	}
	if v.Injected > 0 {
		fmt.Fprintf(w, "audit: %d records that were put into the log on purpose are set aside, and %d parked because of them\n", v.Injected, v.Poisoned)
	}
	if v.Settling != "" {
		fmt.Fprintf(w, "audit: what is younger than %s was not judged\n", v.Settling)
	}
}
