package tidy

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

func codeRules() []Rule {
	return []Rule{
		{"no init", findInits},
		{"no globals but sentinel errors, embedded files and patterns", findGlobals},
		{"a domain takes its time from the database or a clock", findClocks},
		{"tests wait for signals, not for time", findSleeps},
		{"panics are for constructors", findPanics},
		{"receivers have one or two letters", findReceivers},
		{"the context comes first", findContexts},
	}
}

func findInits(t Tree) []Violation {
	var found []Violation
	for _, s := range t.Go {
		for _, f := range functions(s) {
			if f.Recv == nil && f.Name.Name == "init" {
				found = append(found, t.at(s, f, "no init: wire it in main"))
			}
		}
	}
	return found
}

func findGlobals(t Tree) []Violation {
	var found []Violation
	for _, s := range t.production() {
		for _, d := range s.AST.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, spec := range decl.Specs {
				value, ok := spec.(*ast.ValueSpec)
				if !ok || constantLike(value) || embedded(decl.Doc) || embedded(value.Doc) {
					continue
				}
				found = append(found, t.at(s, value, "%s is a global; make it a constant, a parameter, or the result of a function", value.Names[0].Name))
			}
		}
	}
	return found
}

// constantLike is whether all values of a variable are sentinel errors or
// compiled patterns, or whether it only asserts that a type has an interface.
func constantLike(v *ast.ValueSpec) bool {
	if v.Names[0].Name == "_" {
		return true
	}
	for _, value := range v.Values {
		call, ok := value.(*ast.CallExpr)
		if !ok || !slices.Contains([]string{"errors.New", "fmt.Errorf", "regexp.MustCompile"}, callee(call)) {
			return false
		}
	}
	return len(v.Values) > 0
}

func embedded(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	return slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// domain matches the packages that decide what happens to orders, money and
// stock.
const domain = `^(order|payment|inventory|notification)-svc/internal/(order|payment|inventory|notification)$`

func findClocks(t Tree) []Violation {
	isDomain := regexp.MustCompile(domain)
	var found []Violation
	for _, s := range t.production() {
		if !isDomain.MatchString(s.Dir) {
			continue
		}
		for _, n := range uses(s, "time.Now", "time.Since", "time.Until") {
			found = append(found, t.at(s, n, "no clock of the process in a domain: take the database's clock_timestamp(), or a func() time.Time"))
		}
	}
	return found
}

func findSleeps(t Tree) []Violation {
	var found []Violation
	for _, s := range t.Go {
		if !s.Test && !strings.HasSuffix(s.Dir, "test") {
			continue
		}
		for _, n := range uses(s, "time.Sleep") {
			if slices.ContainsFunc(uses(s, "synctest.Test"), func(bubble ast.Node) bool { return sameFunction(s, bubble, n) }) {
				continue // there the clock is fake, and sleeping is how it moves
			}
			found = append(found, t.at(s, n, "no time.Sleep in tests: wait for a signal, poll with a deadline (internal/await), or use testing/synctest"))
		}
	}
	return found
}

// sameFunction is whether two nodes stand in the same top-level function.
func sameFunction(s Source, a, b ast.Node) bool {
	return slices.ContainsFunc(functions(s), func(f *ast.FuncDecl) bool {
		return f.Pos() <= a.Pos() && a.End() <= f.End() && f.Pos() <= b.Pos() && b.End() <= f.End()
	})
}

func findPanics(t Tree) []Violation {
	var found []Violation
	for _, s := range t.production() {
		reasons := map[int]bool{}
		for _, group := range s.AST.Comments {
			reasons[t.line(group)] = true
		}
		for _, f := range functions(s) {
			if strings.HasPrefix(f.Name.Name, "New") || strings.HasPrefix(strings.ToLower(f.Name.Name), "must") {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && callee(call) == "panic" && !reasons[t.line(call)] {
					found = append(found, t.at(s, call, "panic outside a constructor: return an error, or say on this line which programming error it is"))
				}
				return true
			})
		}
	}
	return found
}

func findReceivers(t Tree) []Violation {
	var found []Violation
	for _, s := range t.Go {
		for _, f := range functions(s) {
			if f.Recv == nil || len(f.Recv.List[0].Names) == 0 {
				continue
			}
			if name := f.Recv.List[0].Names[0]; len(name.Name) > 2 {
				found = append(found, t.at(s, name, "receiver %s: one or two letters", name.Name))
			}
		}
	}
	return found
}

func findContexts(t Tree) []Violation {
	var found []Violation
	for _, s := range t.Go {
		ast.Inspect(s.AST, func(n ast.Node) bool {
			f, ok := n.(*ast.FuncType)
			if !ok || f.Params == nil {
				return true
			}
			for i, p := range f.Params.List {
				if name(p.Type) == "context.Context" && i > 0 && !(i == 1 && strings.HasPrefix(name(f.Params.List[0].Type), "testing.")) {
					found = append(found, t.at(s, p, "the context comes first"))
				}
			}
			return true
		})
	}
	return found
}

// uses finds the places where one of the names, written pkg.Name, is used.
func uses(s Source, names ...string) []ast.Node {
	var found []ast.Node
	ast.Inspect(s.AST, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			if _, ok := e.(*ast.SelectorExpr); ok && slices.Contains(names, name(e)) {
				found = append(found, n)
			}
		}
		return true
	})
	return found
}

func callee(c *ast.CallExpr) string { return name(c.Fun) }

// name writes an identifier, pkg.Name or *T as its source does.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return name(e.X)
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
	}
	return ""
}
