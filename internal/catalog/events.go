package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"reflect"
	"strings"

	"pavane/shared/contract"
	"pavane/shared/event"
)

// readEvents joins what the contract's types say at run time with their
// comments, which only the source has.
func readEvents(root fs.FS) ([]Event, error) {
	types, err := readTypes(root)
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, zero := range contract.All() {
		e := Event{Kind: zero.Kind(), Type: reflect.TypeOf(zero).Name()}
		if e.Topic, err = contract.Topics().Of(e.Kind); err != nil {
			return nil, err
		}
		declared, ok := types[e.Type]
		if !ok {
			return nil, fmt.Errorf("%s: no type %s in %s", e.Kind, e.Type, contractDir)
		}
		e.Doc = declared.doc
		_, e.Failure = zero.(event.Failure)
		if c, ok := zero.(event.Compensation); ok {
			e.Undoes = c.Undoes()
		}
		if e.Schema, err = types.event(e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// structs are struct types by name.
type structs map[string]declaration

type declaration struct {
	doc    string
	fields []*ast.Field
}

func readTypes(root fs.FS) (structs, error) {
	names, err := fs.Glob(root, contractDir+"/*.go")
	if err != nil {
		return nil, fmt.Errorf("find the contract: %w", err)
	}
	types := structs{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parse(root, token.NewFileSet(), name)
		if err != nil {
			return nil, err
		}
		maps.Copy(types, structsOf(file))
	}
	return types, nil
}

func structsOf(file *ast.File) structs {
	types := structs{}
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range decl.Specs {
			typ, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			if s, ok := typ.Type.(*ast.StructType); ok {
				types[typ.Name.Name] = declaration{line(decl.Doc), s.Fields.List}
			}
		}
	}
	return types
}

// event is the JSON Schema of an event's data, a document of its own. Unknown
// fields are allowed, because fields are added without a new major version.
func (t structs) event(e Event) (object, error) {
	body, err := t.object(e.Type)
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", e.Kind, err)
	}
	head := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", e.Kind},
		{"description", e.Doc},
	}
	return append(head, body...), nil
}

func (t structs) object(name string) (object, error) {
	declared, ok := t[name]
	if !ok {
		return nil, fmt.Errorf("type %s has no JSON Schema; write one for it in internal/catalog/events.go", name)
	}
	var properties object
	required := []string{}
	for _, field := range declared.fields {
		schema, err := t.schema(field.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if doc := fieldDoc(field); doc != "" {
			schema = append(schema, member{"description", doc})
		}
		jsonName, options := jsonTag(field)
		if jsonName == "" {
			return nil, fmt.Errorf("%s: every field needs a json tag", name)
		}
		properties = append(properties, member{jsonName, schema})
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			required = append(required, jsonName)
		}
	}
	return object{{"type", "object"}, {"properties", properties}, {"required", required}}, nil
}

func (t structs) schema(typ ast.Expr) (object, error) {
	switch typ := typ.(type) {
	case *ast.ArrayType:
		items, err := t.schema(typ.Elt)
		return object{{"type", "array"}, {"items", items}}, err
	case *ast.Ident:
		switch typ.Name {
		case "string":
			return object{{"type", "string"}}, nil
		case "int64":
			return object{{"type", "integer"}, {"format", "int64"}}, nil
		case "bool":
			return object{{"type", "boolean"}}, nil
		}
		return t.object(typ.Name)
	}
	return nil, fmt.Errorf("a field of type %T has no JSON Schema; write one for it in internal/catalog/events.go", typ)
}

func jsonTag(f *ast.Field) (name, options string) {
	if f.Tag == nil {
		return "", ""
	}
	tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
	name, options, _ = strings.Cut(tag, ",")
	return name, options
}

func fieldDoc(f *ast.Field) string {
	if f.Doc != nil {
		return line(f.Doc)
	}
	return line(f.Comment)
}

// line is a comment as one line.
func line(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

// object is a JSON object that keeps the order of its members.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := plain(m.value, "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(bytes.TrimSpace(value))
	}
	return append(append([]byte{'{'}, b.Bytes()...), '}'), nil
}

// plain encodes without the escapes that only HTML needs.
func plain(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}
