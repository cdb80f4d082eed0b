package catalog

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

const contractDir = "shared/contract"

// Read reads the catalogue out of the source: the saga.go of every service, the
// handlers it names, and the contract. Root is the repository. Nothing is built
// or run, so a test that calls it is repeated when a file changes.
func Read(root fs.FS) (Catalogue, error) {
	events, err := readEvents(root)
	if err != nil {
		return Catalogue{}, err
	}
	c := Catalogue{Events: events}
	kinds := map[string]string{}
	for _, e := range events {
		kinds[e.Type] = e.Kind
	}
	tables, err := fs.Glob(root, "*-svc/saga.go")
	if err != nil {
		return Catalogue{}, fmt.Errorf("find the tables of reactions: %w", err)
	}
	for _, table := range tables {
		s, err := readService(root, table, kinds)
		if err != nil {
			return Catalogue{}, err
		}
		c.Services = append(c.Services, s)
	}
	if len(c.Services) == 0 {
		return Catalogue{}, errors.New("no */saga.go found; is this the root of the repository?")
	}
	return c, nil
}

// source reads one service.
type source struct {
	files    *token.FileSet
	kinds    map[string]string // Go type → kind
	handlers map[string][]handler
}

// handler is a method with an event among its parameters.
type handler struct {
	name, file, kind string
}

func readService(root fs.FS, table string, kinds map[string]string) (Service, error) {
	src := source{files: token.NewFileSet(), kinds: kinds, handlers: map[string][]handler{}}
	service := Service{Name: path.Dir(table)}
	if err := src.readHandlers(root, service.Name); err != nil {
		return Service{}, err
	}
	file, err := parse(root, src.files, table)
	if err != nil {
		return Service{}, err
	}
	var errs []error
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		row, ok, err := src.row(call)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", src.files.Position(call.Pos()), err))
		}
		if ok {
			service.Rows = append(service.Rows, row)
		}
		return true
	})
	if len(service.Rows) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s lists no reactions", table))
	}
	return service, errors.Join(errs...)
}

// row reads react.On(handler, emits…), react.OnBatch(handler, emits…) or
// react.Origin(what, emits…); ok is false for any other call.
func (s *source) row(call *ast.CallExpr) (row Row, ok bool, err error) {
	verb := call.Fun
	if index, generic := verb.(*ast.IndexExpr); generic {
		verb = index.X
	}
	if verb, ok := selected(verb, "react"); !ok || (verb != "On" && verb != "OnBatch" && verb != "Origin") {
		return Row{}, false, nil
	} else if len(call.Args) == 0 {
		return Row{}, false, fmt.Errorf("react.%s without arguments", verb)
	} else if verb == "Origin" {
		if row.Origin, err = text(call.Args[0]); err != nil {
			return Row{}, false, err
		}
	} else if row, err = s.handled(call.Args[0]); err != nil {
		return Row{}, false, err
	}
	row.Emits = []string{}
	for _, arg := range call.Args[1:] {
		kind, err := s.zeroValue(arg)
		if err != nil {
			return Row{}, false, err
		}
		row.Emits = append(row.Emits, kind)
	}
	return row, true, nil
}

// handled finds the method that a row names and the event in its signature.
func (s *source) handled(arg ast.Expr) (Row, error) {
	method, ok := arg.(*ast.SelectorExpr)
	if !ok {
		return Row{}, errors.New("name the handler as a method of the service's domain, such as s.Reserve")
	}
	switch found := s.handlers[method.Sel.Name]; len(found) {
	case 1:
		return Row{On: found[0].kind, Handler: found[0].name, File: found[0].file}, nil
	case 0:
		return Row{}, fmt.Errorf("no method %s with an event of the contract among its parameters", method.Sel.Name)
	default:
		return Row{}, fmt.Errorf("two methods %s: %s and %s; give them different names", method.Sel.Name, found[0].file, found[1].file)
	}
}

func (s *source) zeroValue(arg ast.Expr) (string, error) {
	literal, ok := arg.(*ast.CompositeLit)
	if ok {
		if name, ok := selected(literal.Type, "contract"); ok && s.kinds[name] != "" {
			return s.kinds[name], nil
		}
	}
	return "", errors.New("what a reaction emits must be written as contract.Event{}")
}

// readHandlers finds all methods in the service's packages that take an
// event or many.
func (s *source) readHandlers(root fs.FS, service string) error {
	files, err := fs.Glob(root, service+"/internal/*/*.go")
	if err != nil {
		return fmt.Errorf("find the packages of %s: %w", service, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parse(root, s.files, name)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			for _, p := range f.Type.Params.List {
				typ := p.Type
				if many, ok := typ.(*ast.ArrayType); ok { // of react.OnBatch
					typ = many.Elt
				}
				if typ, ok := selected(typ, "contract"); ok && s.kinds[typ] != "" {
					s.handlers[f.Name.Name] = append(s.handlers[f.Name.Name], handler{f.Name.Name, name, s.kinds[typ]})
				}
			}
		}
	}
	return nil
}

func parse(root fs.FS, files *token.FileSet, name string) (*ast.File, error) {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	file, err := parser.ParseFile(files, name, data, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	return file, nil
}

// selected returns the name in an expression pkg.Name.
func selected(e ast.Expr, pkg string) (string, bool) {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := s.X.(*ast.Ident)
	return s.Sel.Name, ok && x.Name == pkg
}

func text(e ast.Expr) (string, error) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", errors.New("write the origin as a plain string")
	}
	return strconv.Unquote(literal.Value)
}
