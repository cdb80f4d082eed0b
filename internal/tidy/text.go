package tidy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

func textRules() []Rule {
	return []Rule{
		{"statements list their columns", findSelectStar},
		{"what is left to do has an issue", findTodos},
		{"no path of the machine it was built on", findMachinePaths},
		{"no host but public ones that readers need", findHosts},
		{"a Markdown file has one title", findTitles},
		{"documents name Makefile targets that exist", findTargets},
		{"documents name variables that exist", findVariables},
		{"links in documents lead to files that exist", findLinks},
		{"documents name tests that exist", findTestNames},
	}
}

// ownTests holds the bad examples that the rules are tested with.
const ownTests = "internal/tidy/rules_test.go"

// texts are the files that people wrote here, but for the bad examples.
func (t Tree) texts(extensions ...string) []File {
	var files []File
	for _, f := range t.Files {
		generated := strings.HasSuffix(f.Path, "go.sum") || strings.Contains(f.Path, "/vendored/")
		if f.Path != ownTests && !generated && (len(extensions) == 0 || slices.Contains(extensions, path.Ext(f.Path))) {
			files = append(files, f)
		}
	}
	return files
}

func always(text string) func(string) string { return func(string) string { return text } }

func findSelectStar(t Tree) []Violation {
	return search(t.texts(".go", ".sql"), []string{"select", "SELECT", "Select"}, regexp.MustCompile(`(?i)\bselect\s+(\w+\.)?\*`),
		always("list the columns: a statement must mean the same before and after a migration"))
}

func findTodos(t Tree) []Violation {
	words := []string{"TO" + "DO", "FIX" + "ME", "HA" + "CK"} // in two parts, or this line would be found
	return search(t.texts(), words, regexp.MustCompile(`\b(`+strings.Join(words, "|")+`)\b(\(#\d+\))?`), func(found string) string {
		if strings.HasSuffix(found, ")") {
			return ""
		}
		return found + " without an issue: do it now, or write " + found + "(#number)"
	})
}

func findMachinePaths(t Tree) []Violation {
	words := make([]string, 0, 4)
	for _, top := range []string{"work", "root", "home", "Users"} {
		words = append(words, "/"+top+"/")
	}
	return search(t.texts(), words, regexp.MustCompile(`(^|[\s"'=:(`+"`"+`])(`+strings.Join(words, "|")+`)[\w./-]+`),
		func(found string) string { return fmt.Sprintf("%q is a path of one machine", strings.TrimSpace(found)) })
}

func findHosts(t Tree) []Violation {
	public := []string{
		"127.0.0.1", "localhost", "json-schema.org", "maven.apache.org", "github.com", "pkg.go.dev", "go.dev",
		"www.w3.org", "www.rfc-editor.org", "kafka.apache.org", "www.postgresql.org", "cloudevents.io", "www.asyncapi.com",
		"microservices.io", "cwiki.apache.org",
	}
	private := regexp.MustCompile(`registry|mirror|proxy|nexus|artifactory`)
	return search(t.texts(), []string{"://"}, regexp.MustCompile(`(?i)https?://[\w.-]+\w`), func(found string) string {
		_, host, _ := strings.Cut(found, "://")
		host = strings.ToLower(host)
		if slices.Contains(public, host) || match("*.example", host) || match("*example.com", host) || match("*.test", host) {
			return ""
		}
		if !strings.Contains(host, ".") && !private.MatchString(host) { // a stand-in of a test, or a name inside a deployment
			return ""
		}
		return fmt.Sprintf("host %s is not among those of internal/tidy/text.go; name only public ones that a reader needs", host)
	})
}

func findTitles(t Tree) []Violation {
	var found []Violation
	for _, f := range t.texts(".md") {
		titles, first := 0, ""
		for line := range strings.Lines(withoutCode(f.Text)) {
			if strings.HasPrefix(line, "# ") {
				titles++
			}
			if first == "" {
				first = strings.TrimSpace(line)
			}
		}
		if titles != 1 || !strings.HasPrefix(first, "# ") {
			found = append(found, Violation{f.Path, 0, fmt.Sprintf("%d titles; begin with one line \"# …\" and have no other", titles)})
		}
	}
	return found
}

// withoutCode blanks fenced blocks, keeping the number of lines.
func withoutCode(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllStringFunc(text, func(block string) string {
		return strings.Repeat("\n", strings.Count(block, "\n"))
	})
}

func findTargets(t Tree) []Violation {
	targets := map[string]bool{}
	rule := regexp.MustCompile(`(?m)^([\w./-]+(?: [\w./-]+)*):(?:[^=]|$)`)
	for _, f := range t.Files {
		if f.Path != "Makefile" {
			continue
		}
		for _, m := range rule.FindAllStringSubmatch(f.Text, -1) {
			for _, name := range strings.Fields(m[1]) {
				targets[name] = true
			}
		}
	}
	// Only what is written as code: in prose "make sure" is no target.
	return search(t.texts(".md"), []string{"make "}, regexp.MustCompile("(`|^)make [a-z][\\w-]*"), func(found string) string {
		_, name, _ := strings.Cut(found, "make ")
		if targets[name] {
			return ""
		}
		return "the Makefile has no target " + name
	})
}

// findVariables compares the PAVANE_ variables that documents name with those
// the code has: as a literal, or as a row of the generated table.
func findVariables(t Tree) []Violation {
	variable := regexp.MustCompile(`\bPAVANE_[A-Z][A-Z_]*[A-Z]`)
	known := map[string]bool{}
	for _, f := range t.Files {
		switch {
		case f.Path == ownTests:
		case path.Ext(f.Path) == ".go" || path.Base(f.Path) == "Makefile":
			for _, name := range variable.FindAllString(f.Text, -1) {
				known[name] = true
			}
		case f.Path == "README.md":
			for _, m := range regexp.MustCompile("(?m)^\\| `(PAVANE_[A-Z_]+)`").FindAllStringSubmatch(f.Text, -1) {
				known[m[1]] = true
			}
		}
	}
	return search(t.texts(".md"), []string{"PAVANE_"}, variable, func(found string) string {
		if known[found] || known[strings.TrimSuffix(found, "_FILE")] {
			return ""
		}
		return found + " is read by nobody"
	})
}

func findLinks(t Tree) []Violation {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	var found []Violation
	for _, f := range t.texts(".md") {
		n := 0
		for line := range strings.Lines(withoutCode(f.Text)) {
			n++
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				to := path.Join(path.Dir(f.Path), m[1])
				if strings.Contains(m[1], "://") || t.has(to) || t.hasDir(to) {
					continue
				}
				found = append(found, Violation{f.Path, n, "link to " + m[1] + ", which does not exist"})
			}
		}
	}
	return found
}

func (t Tree) hasDir(name string) bool {
	return slices.ContainsFunc(t.Files, func(f File) bool { return strings.HasPrefix(f.Path, name+"/") })
}

func findTestNames(t Tree) []Violation {
	known := map[string]bool{}
	for _, s := range t.Go {
		for _, f := range functions(s) {
			known[f.Name.Name] = s.Test
		}
	}
	prose := t.texts(".md")
	for i := range prose {
		prose[i].Text = withoutCode(prose[i].Text)
	}
	return search(prose, []string{"Test", "Fuzz", "Benchmark", "Example"}, regexp.MustCompile(`\b(Test|Fuzz|Benchmark|Example)[A-Z]\w+`), func(found string) string {
		if known[found] {
			return ""
		}
		return "there is no test " + found
	})
}
