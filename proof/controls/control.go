package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// control is one deliberate breakage and the run that must notice it.
type control struct {
	name    string
	breaks  string // what the breakage is, for people
	promise string // number of the promise in docs/guarantees.md
	edits   []edit

	// One of the two notices it:
	pkg, test string   // a test of a package
	audited   []string // services that are built broken, run through every path of the saga and audited

	faults string   // what PAVANE_FAILPOINTS is for the services
	says   []string // what the failure must contain, so that it is the right one
}

// edit replaces a text that occurs exactly once in a file.
type edit struct {
	file     string
	old, new []string // lines
}

// load reads the controls of a directory, one a file, in the order of their names.
func load(dir fs.FS) ([]control, error) {
	names, err := fs.Glob(dir, "*.txt")
	if err != nil {
		return nil, err
	}
	controls := make([]control, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		if controls[i], err = parse(strings.TrimSuffix(path.Base(name), ".txt"), string(text)); err != nil {
			return nil, fmt.Errorf("control %s: %w", name, err)
		}
	}
	return controls, nil
}

// parse reads one control. The package comment shows the form.
func parse(name, text string) (control, error) {
	c := control{name: name}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		if err := c.line(lines.Text()); err != nil {
			return c, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return c, errors.Join(lines.Err(), c.complete())
}

func (c *control) line(line string) error {
	if text, ok := strings.CutPrefix(line, "-"); ok && len(c.edits) > 0 {
		e := &c.edits[len(c.edits)-1]
		e.old = append(e.old, text)
		return nil
	}
	if text, ok := strings.CutPrefix(line, "+"); ok && len(c.edits) > 0 {
		e := &c.edits[len(c.edits)-1]
		e.new = append(e.new, text)
		return nil
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "":
	case "#":
		c.breaks = strings.TrimSpace(c.breaks + " " + rest)
	case "promise":
		c.promise = rest
	case "edit":
		c.edits = append(c.edits, edit{file: rest})
	case "test":
		c.pkg, c.test, _ = strings.Cut(rest, " ")
	case "audit":
		c.audited = strings.Fields(rest)
	case "faults":
		c.faults = rest
	case "says":
		c.says = append(c.says, rest)
	default:
		return fmt.Errorf("%q is none of #, promise, edit, -, +, test, audit, faults and says", word)
	}
	return nil
}

func (c *control) complete() error {
	if c.breaks == "" || c.promise == "" || len(c.edits) == 0 || len(c.says) == 0 {
		return errors.New("what it breaks (#), promise, edit and says are required")
	}
	if (c.test == "") == (len(c.audited) == 0) {
		return errors.New("either a test or an audit must notice it")
	}
	for _, e := range c.edits {
		if len(e.old) == 0 {
			return fmt.Errorf("the edit of %s replaces nothing", e.file)
		}
	}
	return nil
}

// caughtBy names what must notice the breakage.
func (c *control) caughtBy() string {
	if c.test != "" {
		return c.test
	}
	return "audit of " + strings.Join(c.audited, ", ")
}

// broken returns the changed files by name. The text of each edit must occur in
// its file exactly once: a control that does not fit the code any more proves
// nothing.
func (c *control) broken(root fs.FS) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range c.edits {
		text, ok := files[e.file]
		if !ok {
			b, err := fs.ReadFile(root, e.file)
			if err != nil {
				return nil, fmt.Errorf("control %s does not fit any more: %w", c.name, err)
			}
			text = string(b)
		}
		before := strings.Join(e.old, "\n")
		if n := strings.Count(text, before); n != 1 {
			return nil, fmt.Errorf("control %s does not fit %s any more: %q is there %d times, want once", c.name, e.file, before, n)
		}
		files[e.file] = strings.Replace(text, before, strings.Join(e.new, "\n"), 1)
	}
	return files, nil
}

// overlay writes the changed files into dir and returns the file that go's
// -overlay flag asks for. root is an absolute path.
func (c *control) overlay(root, dir string) (string, error) {
	files, err := c.broken(os.DirFS(root))
	if err != nil {
		return "", err
	}
	replace := make(map[string]string, len(files))
	for name, text := range files {
		changed := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, name)] = changed
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o600)
}
