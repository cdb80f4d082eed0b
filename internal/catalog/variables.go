package catalog

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"pavane/shared/config"
	"pavane/shared/service"
)

// variableTable lists the environment variables of all services: those they
// share, then each service's own.
func variableTable(root fs.FS) (string, error) {
	common, err := config.Table(service.Prefix, &service.Config{})
	if err != nil {
		return "", err
	}
	rows := [][]string{{"variable", "of", "default", "meaning"}}
	for _, r := range common {
		rows = append(rows, variableRow("all", r))
	}
	services, err := fs.Glob(root, "*-svc/config.go")
	if err != nil {
		return "", fmt.Errorf("find the configurations: %w", err)
	}
	for _, file := range services {
		own, err := ownVariables(root, file)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		for _, r := range own {
			rows = merge(rows, variableRow(short(path.Dir(file)), r))
		}
	}
	return table(rows), nil
}

// merge adds a row, or the service's name to a row that says the same.
func merge(rows [][]string, row []string) [][]string {
	for _, have := range rows {
		if have[0] == row[0] && slices.Equal(have[2:], row[2:]) {
			have[1] += ", " + row[1]
			return rows
		}
	}
	return append(rows, row)
}

func variableRow(of string, r config.Row) []string {
	value := "–"
	if r.Default != "" {
		value = "`" + r.Default + "`"
	}
	name := "`" + r.Variable + "`"
	if r.Secret {
		name += " (or `…_FILE`)"
	}
	return []string{name, of, value, strings.ReplaceAll(r.Meaning, "|", `\|`)}
}

// ownVariables reads the struct that embeds service.Config. Commands cannot be
// imported, so the struct is rebuilt from its source; names and defaults then
// come from the same code that the service runs.
func ownVariables(root fs.FS, name string) ([]config.Row, error) {
	file, err := parse(root, token.NewFileSet(), name)
	if err != nil {
		return nil, err
	}
	fields, err := embedder(file)
	if err != nil {
		return nil, err
	}
	typ, err := rebuild(root, path.Dir(name), fields)
	if err != nil {
		return nil, err
	}
	return config.Table(service.Prefix, reflect.New(typ).Interface())
}

// embedder returns the fields of the struct that embeds service.Config, but for
// that one.
func embedder(file *ast.File) ([]*ast.Field, error) {
	var found []*ast.Field
	ok := false
	ast.Inspect(file, func(n ast.Node) bool {
		s, isStruct := n.(*ast.StructType)
		if !isStruct {
			return true
		}
		for i, f := range s.Fields.List {
			if typ, selects := selected(f.Type, "service"); selects && typ == "Config" && len(f.Names) == 0 {
				found, ok = slices.Delete(slices.Clone(s.Fields.List), i, i+1), true
			}
		}
		return true
	})
	if !ok {
		return nil, errors.New("no struct embeds service.Config")
	}
	return found, nil
}

func rebuild(root fs.FS, dir string, fields []*ast.Field) (reflect.Type, error) {
	var rebuilt []reflect.StructField
	for _, f := range fields {
		typ, err := typeOf(root, dir, f.Type)
		if err != nil {
			return nil, err
		}
		tag := ""
		if f.Tag != nil {
			if tag, err = strconv.Unquote(f.Tag.Value); err != nil {
				return nil, err
			}
		}
		for _, name := range f.Names {
			rebuilt = append(rebuilt, reflect.StructField{Name: name.Name, Type: typ, Tag: reflect.StructTag(tag)})
		}
	}
	return reflect.StructOf(rebuilt), nil
}

func typeOf(root fs.FS, dir string, e ast.Expr) (reflect.Type, error) {
	switch e := e.(type) {
	case *ast.ArrayType:
		elem, err := typeOf(root, dir, e.Elt)
		if err != nil {
			return nil, err
		}
		return reflect.SliceOf(elem), nil
	case *ast.Ident:
		basic := map[string]reflect.Type{
			"string": reflect.TypeFor[string](), "bool": reflect.TypeFor[bool](), "int": reflect.TypeFor[int](),
			"int64": reflect.TypeFor[int64](), "float64": reflect.TypeFor[float64](),
		}
		if typ, ok := basic[e.Name]; ok {
			return typ, nil
		}
	case *ast.SelectorExpr:
		pkg, ok := e.X.(*ast.Ident)
		if ok && pkg.Name == "time" && e.Sel.Name == "Duration" {
			return reflect.TypeFor[time.Duration](), nil
		}
		if ok {
			return imported(root, path.Join(dir, "internal", pkg.Name), e.Sel.Name)
		}
	}
	return nil, fmt.Errorf("a variable of type %T cannot be listed; teach internal/catalog/variables.go", e)
}

// imported rebuilds a struct that one of the service's packages declares.
func imported(root fs.FS, dir, name string) (reflect.Type, error) {
	files, err := fs.Glob(root, dir+"/*.go")
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		file, err := parse(root, token.NewFileSet(), path)
		if err != nil {
			return nil, err
		}
		if s, ok := structsOf(file)[name]; ok {
			return rebuild(root, dir, s.fields)
		}
	}
	return nil, fmt.Errorf("no struct %s in %s", name, dir)
}
