// Package tidy owns the repository's rules: which package may import which, how
// long a function may be, what every event and every service must have. Its
// tests hold the tree to them. The rules read the files themselves and start no
// process, so that go test repeats them when a file changes.
package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Module is the path of the module.
const Module = "pavane"

// Tree is the repository as the rules see it.
type Tree struct {
	Files []File // all text files, by path
	Go    []Source
	// Others are the paths of all other files, such as pictures: there to be
	// linked to.
	Others []string
	fset   *token.FileSet
}

// File is a text file.
type File struct {
	Path string
	Text string
}

// Source is a file of Go.
type Source struct {
	File
	Dir  string // of the package, from the root; "." for the root itself
	Test bool   // a _test.go file
	AST  *ast.File
}

// Violation is a place where a rule is broken and what to do about it.
type Violation struct {
	Path string
	Line int // 0: the file or folder as a whole
	Text string
}

// String is the violation the way compilers print errors.
func (v Violation) String() string {
	if v.Line == 0 {
		return v.Path + ": " + v.Text
	}
	return fmt.Sprintf("%s:%d: %s", v.Path, v.Line, v.Text)
}

// Rule finds all violations of one rule.
type Rule struct {
	Name string
	Find func(Tree) []Violation
}

// Rules returns all rules.
func Rules() []Rule {
	return slices.Concat(importRules(), sizeRules(), docRules(), codeRules(), textRules(), partRules())
}

// Load reads the tree below root. What git does not keep is left out: hidden
// folders and the folders that .gitignore names.
func Load(root fs.FS) (Tree, error) {
	t := Tree{fset: token.NewFileSet()}
	ignored := ignoredDirs(root)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if slices.Contains(ignored, name) || base == "node_modules" || (strings.HasPrefix(base, ".") && name != "." && base != ".ci" && base != ".github") {
				return fs.SkipDir
			}
			return nil
		}
		if name == ".git" { // of a worktree: it says where the repository is
			return nil
		}
		return t.add(root, name)
	})
	if err != nil {
		return Tree{}, fmt.Errorf("read the tree: %w", err)
	}
	return t, nil
}

func ignoredDirs(root fs.FS) []string {
	data, err := fs.ReadFile(root, ".gitignore")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "/") && !strings.Contains(line, "*") {
			dirs = append(dirs, strings.Trim(line, "/"))
		}
	}
	return dirs
}

func (t *Tree) add(root fs.FS, name string) error {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	if bytes.IndexByte(data, 0) >= 0 {
		t.Others = append(t.Others, name)
		return nil
	}
	file := File{Path: name, Text: string(data)}
	t.Files = append(t.Files, file)
	if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
		return nil
	}
	parsed, err := parser.ParseFile(t.fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.Go = append(t.Go, Source{File: file, Dir: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"), AST: parsed})
	return nil
}

// line is where a node stands.
func (t Tree) line(n ast.Node) int { return t.fset.Position(n.Pos()).Line }

// at is a violation at a node.
func (t Tree) at(s Source, n ast.Node, format string, args ...any) Violation {
	return Violation{s.Path, t.line(n), fmt.Sprintf(format, args...)}
}

// has is whether the tree has a file.
func (t Tree) has(name string) bool {
	return slices.Contains(t.Others, name) || slices.ContainsFunc(t.Files, func(f File) bool { return f.Path == name })
}

// production are the files that are not tests.
func (t Tree) production() []Source {
	return slices.DeleteFunc(slices.Clone(t.Go), func(s Source) bool { return s.Test })
}

// match is path.Match for patterns that are constants.
func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// search reports every place in the files that the pattern matches and about
// which text has something to say. Only lines that hold one of the words are
// looked at, because matching is slow; no words mean all lines.
func search(files []File, words []string, pattern *regexp.Regexp, text func(found string) string) []Violation {
	holds := func(s string) bool {
		return len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
	}
	var found []Violation
	for _, f := range files {
		if !holds(f.Text) {
			continue
		}
		n := 0
		for line := range strings.Lines(f.Text) {
			n++
			if !holds(line) {
				continue
			}
			for _, hit := range pattern.FindAllString(line, -1) {
				if message := text(hit); message != "" {
					found = append(found, Violation{f.Path, n, message})
				}
			}
		}
	}
	return found
}
