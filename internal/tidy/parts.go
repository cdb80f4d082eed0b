package tidy

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"pavane/internal/catalog"
)

func partRules() []Rule {
	return []Rule{
		{"migrations are numbered without a gap", findMigrations},
		{"no migration adds a check and validates it", findValidations},
		{"a service has main.go and config.go", findServices},
	}
}

// findMigrations wants NNNNN_name.sql from 1 on in each folder, each number once.
func findMigrations(t Tree) []Violation {
	numbers := map[string][]int{}
	var found []Violation
	for _, f := range t.Files {
		if !match("migrations/*/*", f.Path) || path.Base(f.Path) == "grants.txt" {
			continue
		}
		digits, _, _ := strings.Cut(path.Base(f.Path), "_")
		n, err := strconv.Atoi(digits)
		if err != nil || len(digits) != 5 || path.Ext(f.Path) != ".sql" {
			found = append(found, Violation{f.Path, 0, "name a migration NNNNN_what_it_does.sql"})
			continue
		}
		numbers[path.Dir(f.Path)] = append(numbers[path.Dir(f.Path)], n)
	}
	for _, dir := range slices.Sorted(maps.Keys(numbers)) {
		slices.Sort(numbers[dir])
		for i, n := range numbers[dir] {
			if n != i+1 {
				found = append(found, Violation{dir, 0, fmt.Sprintf("migration %d stands where %d is due; number them 1, 2, 3 … without gap or double", n, i+1)})
				break
			}
		}
	}
	return found
}

// findValidations finds transactions that keep everybody out of a table, as adding
// a constraint does, while they read all of it.
func findValidations(t Tree) []Violation {
	comment, adds, validates := regexp.MustCompile(`--[^\n]*`), regexp.MustCompile(`(?i)\bnot\s+valid\b`), regexp.MustCompile(`(?i)\bvalidate\s+constraint\b`)
	var found []Violation
	for _, f := range t.Files {
		statements := comment.ReplaceAllString(f.Text, "")
		if match("migrations/*/*.sql", f.Path) && adds.MatchString(statements) && validates.MatchString(statements) {
			found = append(found, Violation{f.Path, 0, "NOT VALID and VALIDATE CONSTRAINT in one transaction; validate in the next migration"})
		}
	}
	return found
}

func findServices(t Tree) []Violation {
	dirs := map[string]bool{}
	for _, s := range t.Go {
		if service, _, _ := strings.Cut(s.Dir, "/"); match("*-svc", service) {
			dirs[service] = true
		}
	}
	var found []Violation
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		for _, name := range []string{"main.go", "config.go"} {
			if !t.has(dir + "/" + name) {
				found = append(found, Violation{dir, 0, "no " + name + "; every service has the same files"})
			}
		}
	}
	return found
}

// Events finds the events of the catalogue that lack something: a golden, a
// schema, a publisher, a reader, a compensation.
func (t Tree) Events(c catalog.Catalogue) []Violation {
	var found []Violation
	for _, e := range c.Events {
		for _, name := range []string{"shared/contract/testdata/" + e.Kind + ".json", "shared/contract/schema/" + e.Kind + ".json"} {
			if !t.has(name) {
				found = append(found, Violation{name, 0, "missing; " + e.Kind + " needs it"})
			}
		}
	}
	for _, problem := range c.Check() {
		found = append(found, Violation{"*/saga.go", 0, problem})
	}
	return found
}

// Tracked finds what git keeps, by the text of its index, and should not: the
// inputs that rapid writes down when a property fails. .gitignore leaves them out,
// but not one that was added before or by force.
func Tracked(index []byte) []Violation {
	var found []Violation
	for _, name := range regexp.MustCompile(`[\w./-]+\.fail\x00`).FindAll(index, -1) {
		found = append(found, Violation{strings.TrimRight(string(name), "\x00"), 0, "git rm it: a failure that rapid found is mended, or written as a test of its own"})
	}
	return found
}
