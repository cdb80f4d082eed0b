// Package doctor owns the look at a machine before the demo runs on it (what it
// needs, what is there, and what to do about the rest) and how such a look is
// written down.
package doctor

import (
	"fmt"
	"io"
	"text/tabwriter"
)

type grade string

const (
	fine    grade = "ok"
	missing grade = "note"
	bad     grade = "bad"
)

// Finding is what one look has shown.
type Finding struct {
	grade   grade
	subject string
	what    string
}

// Fine says that all is well with the subject.
func Fine(subject, format string, args ...any) Finding {
	return Finding{fine, subject, fmt.Sprintf(format, args...)}
}

// Note names something that not everybody needs, and what it is for.
func Note(subject, format string, args ...any) Finding {
	return Finding{missing, subject, fmt.Sprintf(format, args...)}
}

// Bad names something that has to be seen to, and what to do.
func Bad(subject, format string, args ...any) Finding {
	return Finding{bad, subject, fmt.Sprintf(format, args...)}
}

// Write prints findings under a title, a line for each, and returns how many are
// bad.
func Write(w io.Writer, title string, all []Finding) (found int, err error) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, title)
	for _, f := range all {
		if f.grade == bad {
			found++
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", f.grade, f.subject, f.what)
	}
	if err := t.Flush(); err != nil {
		return found, fmt.Errorf("write what was found: %w", err)
	}
	return found, nil
}
