package config

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"text/tabwriter"
)

// masked stands in place of a secret that is set.
const masked = "********"

// urlPassword finds the password in a URL.
var urlPassword = regexp.MustCompile(`(://[^:/?#\s@]*:)[^/\s]*@`)

// Row describes one variable, for the table in a README and for -help.
type Row struct {
	Variable string // the full name, PAVANE_HTTP_ADDR
	Type     string // the Go type of the field; "duration" and "log level" for those two
	Default  string // the text of the default; empty: none
	Required bool
	Secret   bool   // may come from VARIABLE_FILE and is never printed
	Meaning  string // the field's desc tag
}

// Table describes the variables that Load reads into cfg, in the order of the
// fields. It reads tags only, never the environment.
func Table(prefix string, cfg any) ([]Row, error) {
	fields, err := fieldsOf(prefix, cfg)
	if err != nil {
		return nil, err
	}
	rows := make([]Row, len(fields))
	for i, f := range fields {
		rows[i] = Row{
			Variable: f.variable, Type: f.typeName(), Default: f.defaultText,
			Required: f.required, Secret: f.secret, Meaning: f.desc,
		}
	}
	return rows, nil
}

// Help is Table as text, one variable a line, for -help.
func Help(prefix string, cfg any) (string, error) {
	rows, err := Table(prefix, cfg)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Variable, r.Type, r.note(), r.Meaning)
	}
	if err := w.Flush(); err != nil {
		return "", fmt.Errorf("config: write the help text: %w", err)
	}
	return b.String(), nil
}

func (r Row) note() string {
	switch {
	case r.Secret && r.Required:
		return "required, or " + r.Variable + "_FILE"
	case r.Secret:
		return "or " + r.Variable + "_FILE"
	case r.Required:
		return "required"
	case r.Default != "":
		return "default " + r.Default
	default:
		return "empty by default"
	}
}

// Dump is the loaded configuration as log attributes under the names of the
// variables. Fields tagged secret show only whether they are set, and a
// password inside a URL is masked wherever it stands.
func Dump(prefix string, cfg any) ([]slog.Attr, error) {
	fields, err := fieldsOf(prefix, cfg)
	if err != nil {
		return nil, err
	}
	attrs := make([]slog.Attr, len(fields))
	for i, f := range fields {
		attrs[i] = slog.String(f.variable, f.shown())
	}
	return attrs, nil
}

func (f field) shown() string {
	text := fmt.Sprint(f.value.Interface())
	if f.secret {
		if text == "" {
			return ""
		}
		return masked
	}
	return urlPassword.ReplaceAllString(text, "${1}"+masked+"@")
}
