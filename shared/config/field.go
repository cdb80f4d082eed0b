package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// shadowPrefix makes a variable name that no environment sets: a name with a
// line break in it.
const shadowPrefix = "SHADOW\n"

// wordBreak finds where a Go name breaks into words: HTTPAddr is HTTP, Addr.
var wordBreak = regexp.MustCompile(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)

// field is one setting: where its value goes and what its tags say.
type field struct {
	variable    string
	value       reflect.Value
	defaultText string
	desc        string
	secret      bool
	required    bool
}

func (f field) fileVariable() string { return f.variable + "_FILE" }

// remedy says what to do about a wrong value.
func (f field) remedy() string {
	var b strings.Builder
	b.WriteString("set it to " + example(f.value))
	if f.desc != "" {
		b.WriteString("; it is " + strconv.Quote(f.desc))
	}
	if f.secret {
		b.WriteString("; " + f.fileVariable() + " may name a file instead")
	}
	return b.String()
}

func (f field) typeName() string {
	switch name := f.value.Type().String(); name {
	case "time.Duration":
		return "duration"
	case "slog.Level":
		return "log level"
	default:
		return name
	}
}

// example says what a value of the type looks like.
func example(v reflect.Value) string {
	switch v.Type().String() {
	case "time.Duration":
		return "a duration such as 500ms, 30s or 24h"
	case "slog.Level":
		return "debug, info, warn or error"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number that fits " + v.Type().String()
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list, separated by commas"
	case reflect.Map:
		return "pairs such as a:1,b:2"
	default:
		return "a value"
	}
}

// fieldsOf lists the settings of cfg in the order of its fields.
func fieldsOf(prefix string, cfg any) ([]field, error) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: %T cannot be filled: pass a pointer to a struct", cfg)
	}
	var fields []field
	seen := map[string]bool{}
	collect(strings.ToUpper(prefix), v.Elem(), &fields)
	for _, f := range fields {
		if seen[f.variable] {
			return nil, fmt.Errorf("config: two fields of %T read %s: rename one", cfg, f.variable)
		}
		seen[f.variable] = true
		if f.secret && f.value.Kind() != reflect.String {
			return nil, fmt.Errorf("config: %s is tagged secret but is a %s: make it a string", f.variable, f.value.Type())
		}
	}
	return fields, nil
}

func collect(prefix string, v reflect.Value, out *[]field) {
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		if !t.IsExported() || isTrue(t.Tag.Get("ignored")) {
			continue
		}
		name := join(prefix, variableName(t), t.Anonymous && isGroup(f))
		if isGroup(f) {
			collect(name, f, out)
			continue
		}
		*out = append(*out, field{
			variable:    name,
			value:       f,
			defaultText: t.Tag.Get("default"),
			desc:        t.Tag.Get("desc"),
			secret:      isTrue(t.Tag.Get("secret")),
			required:    isTrue(t.Tag.Get("required")),
		})
	}
}

// isGroup says whether v is a struct of further settings, not a value that
// reads its own text (as time.Time does).
func isGroup(v reflect.Value) bool {
	if v.Kind() != reflect.Struct || !v.CanAddr() || !v.Addr().CanInterface() {
		return false
	}
	switch v.Addr().Interface().(type) {
	case envconfig.Decoder, envconfig.Setter, encoding.TextUnmarshaler, encoding.BinaryUnmarshaler:
		return false
	}
	return true
}

func variableName(t reflect.StructField) string {
	if name := t.Tag.Get("envconfig"); name != "" {
		return strings.ToUpper(name)
	}
	// Twice, because matches do not overlap: ABCd needs two passes.
	name := wordBreak.ReplaceAllString(t.Name, "${1}${3}_${2}${4}")
	name = wordBreak.ReplaceAllString(name, "${1}${3}_${2}${4}")
	return strings.ToUpper(name)
}

func join(prefix, name string, embedded bool) string {
	switch {
	case embedded:
		return prefix
	case prefix == "":
		return name
	default:
		return prefix + "_" + name
	}
}

func isTrue(s string) bool {
	b, err := strconv.ParseBool(s)
	return err == nil && b
}
