package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// grantsFile lies beside the migrations and says what the runtime role may do
// with what they make.
const grantsFile = "grants.txt"

// Privilege is one thing that the runtime role may do.
type Privilege struct {
	Kind    string   // of the object: table, sequence or function
	Object  string   // a table's or sequence's name, a function's signature
	Verb    string   // select, insert, update, delete, usage or execute
	Columns []string // that the verb is limited to; nil: all of them
}

// String returns the privilege as in GRANT: "update (balance) on table accounts".
func (p Privilege) String() string {
	verb := p.Verb
	if p.Columns != nil {
		verb += " (" + strings.Join(p.Columns, ", ") + ")"
	}
	return verb + " on " + p.Kind + " " + p.Object
}

// Names in the file need no quoting, so a line cannot be more than it looks.
var (
	grantLine = regexp.MustCompile(`^(?:(sequence|function) +)?([a-z_][a-z0-9_]*(?:\([a-z0-9_, ]*\))?) +(.+)$`)
	grantVerb = regexp.MustCompile(`^(select|insert|update|delete|usage|execute)(?: \(([a-z_][a-z0-9_]*(?:, [a-z_][a-z0-9_]*)*)\))?(?:, |$)`)
)

// Privileges reads what grants.txt beside the migrations allows the runtime
// role. Each line is an object and its verbs:
//
//	orders   select, insert, update
//	accounts select, insert, update (balance)
//	sequence outbox_id_seq usage, select
//	function outbox_extend(integer) execute
//
// Without such a file nothing is allowed, and [Grant] refuses the set.
func Privileges(files fs.FS) ([]Privilege, error) {
	text, err := fs.ReadFile(files, grantsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Privilege
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		of, err := parseGrant(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", grantsFile, i+1, err)
		}
		all = append(all, of...)
	}
	return all, nil
}

func parseGrant(line string) ([]Privilege, error) {
	parts := grantLine.FindStringSubmatch(line)
	if parts == nil {
		return nil, fmt.Errorf("%q: want an object and its verbs, such as: orders select, insert", line)
	}
	kind, object, rest := parts[1], parts[2], parts[3]
	if kind == "" {
		kind = "table"
	}
	var all []Privilege
	for rest != "" {
		verb := grantVerb.FindStringSubmatch(rest)
		if verb == nil {
			return nil, fmt.Errorf("%q: want verbs such as: select, update (balance)", rest)
		}
		p := Privilege{Kind: kind, Object: object, Verb: verb[1]}
		if verb[2] != "" {
			p.Columns = strings.Split(verb[2], ", ")
		}
		all, rest = append(all, p), rest[len(verb[0]):]
	}
	return all, nil
}
