package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

func docRules() []Rule {
	return []Rule{
		{"every package says what it owns", findPackageComments},
		{"every export is documented", findUndocumented},
	}
}

func findPackageComments(t Tree) []Violation {
	documented := map[string]int{}
	onlyTests := map[string]bool{}
	for _, s := range t.Go {
		if _, ok := onlyTests[s.Dir]; !ok {
			onlyTests[s.Dir] = true
		}
		onlyTests[s.Dir] = onlyTests[s.Dir] && s.Test
	}
	var found []Violation
	for _, s := range t.Go {
		documented[s.Dir] += 0
		if s.AST.Doc == nil || s.Test && !onlyTests[s.Dir] {
			continue
		}
		documented[s.Dir]++
		kind := "Package " + s.AST.Name.Name + " "
		if s.AST.Name.Name == "main" {
			kind = "Command "
		}
		if !strings.HasPrefix(s.AST.Doc.Text(), kind) {
			found = append(found, t.at(s, s.AST, "begin the package comment with %q", kind))
		}
	}
	for dir, n := range documented {
		switch {
		case n == 0:
			found = append(found, Violation{dir, 0, "no package comment; say in a sentence or two what the package owns"})
		case n > 1:
			found = append(found, Violation{dir, 0, fmt.Sprintf("%d package comments; keep one", n)})
		}
	}
	slices.SortFunc(found, func(a, b Violation) int { return strings.Compare(a.Path, b.Path) })
	return found
}

func findUndocumented(t Tree) []Violation {
	var found []Violation
	for _, s := range t.production() {
		for _, d := range s.AST.Decls {
			for _, name := range undocumented(d) {
				found = append(found, t.at(s, name, "%s has no comment; say what it means, its units and its errors", name.Name))
			}
		}
	}
	return found
}

// undocumented returns the exported names of a declaration that no comment
// explains.
func undocumented(d ast.Decl) []*ast.Ident {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiverType(d))) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		if d.Doc != nil && d.Tok != token.TYPE || d.Tok == token.IMPORT {
			return nil
		}
		var names []*ast.Ident
		for _, spec := range d.Specs {
			names = append(names, undocumentedIn(spec, d.Doc != nil && !d.Lparen.IsValid())...)
		}
		return names
	}
	return nil
}

func undocumentedIn(spec ast.Spec, explained bool) []*ast.Ident {
	var names []*ast.Ident
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && !explained {
			names = append(names, s.Name)
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && s.Doc == nil && s.Comment == nil {
				names = append(names, name)
			}
		}
	}
	return names
}

// receiverType is the name of the type that a method belongs to.
func receiverType(f *ast.FuncDecl) string {
	typ := f.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}
