package tidy

import (
	"fmt"
	"go/ast"
	"go/scanner"
	"go/token"
	"path"
	"slices"
	"strings"
)

// The budget, in lines.
const (
	maxFunction = 70  // from func to the closing brace, of production code
	maxFile     = 400 // of code: blank lines and comments do not count
	maxMain     = 100 // main.go of a service, all lines
	maxSaga     = 40  // saga.go, all lines: it is read as one page with the others
)

func sizeRules() []Rule {
	return []Rule{
		{"functions are at most 70 lines", findLongFunctions},
		{"files are at most 400 lines of code", findLongFiles},
		{"main.go and saga.go of a service stay on a page", findLongMains},
	}
}

func findLongFunctions(t Tree) []Violation {
	var found []Violation
	for _, s := range t.production() {
		for _, f := range functions(s) {
			if n := t.lines(f); n > maxFunction {
				found = append(found, t.at(s, f, "%s has %d lines, at most %d; take a step out of it", f.Name.Name, n, maxFunction))
			}
		}
	}
	return found
}

func findLongFiles(t Tree) []Violation {
	var found []Violation
	for _, s := range t.production() {
		if n := linesOfCode(s.Text); n > maxFile {
			found = append(found, Violation{s.Path, 0, fmt.Sprintf("%d lines of code, at most %d; split it by what it serves", n, maxFile)})
		}
	}
	return found
}

func findLongMains(t Tree) []Violation {
	var found []Violation
	for _, s := range t.Go {
		limit := map[string]int{"main.go": maxMain, "saga.go": maxSaga}[path.Base(s.Path)]
		if n := strings.Count(s.Text, "\n"); limit > 0 && match("*-svc", s.Dir) && n > limit {
			found = append(found, Violation{s.Path, 0, fmt.Sprintf("%d lines, at most %d", n, limit)})
		}
	}
	return found
}

// Stats are the lengths of the functions of one package.
type Stats struct {
	Package                string
	Functions, Median, P95 int
	Longest                int
}

// Functions measures the production code of each package that has functions.
func (t Tree) Functions() []Stats {
	lengths := map[string][]int{}
	for _, s := range t.production() {
		for _, f := range functions(s) {
			lengths[s.Dir] = append(lengths[s.Dir], t.lines(f))
			lengths["all"] = append(lengths["all"], t.lines(f))
		}
	}
	var stats []Stats
	for dir, of := range lengths {
		slices.Sort(of)
		stats = append(stats, Stats{dir, len(of), of[len(of)/2], of[min(len(of)*95/100, len(of)-1)], of[len(of)-1]})
	}
	slices.SortFunc(stats, func(a, b Stats) int { return strings.Compare(a.Package, b.Package) })
	return stats
}

func functions(s Source) []*ast.FuncDecl {
	var found []*ast.FuncDecl
	for _, d := range s.AST.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			found = append(found, f)
		}
	}
	return found
}

// lines counts from the line of func to that of the closing brace.
func (t Tree) lines(f *ast.FuncDecl) int {
	return t.fset.Position(f.End()).Line - t.fset.Position(f.Type.Pos()).Line + 1
}

// linesOfCode counts the lines that hold a part of a token.
func linesOfCode(text string) int {
	var s scanner.Scanner
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(text))
	s.Init(file, []byte(text), nil, 0)
	lines := map[int]bool{}
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return len(lines)
		}
		if tok == token.SEMICOLON && literal == "\n" {
			continue
		}
		first := file.Line(pos)
		for i := range strings.Count(literal, "\n") + 1 {
			lines[first+i] = true
		}
	}
}
