// Package config owns how a process gets its settings: one struct per service,
// filled from environment variables, checked before anything starts, printable
// without its secrets.
//
// A field becomes the variable PREFIX_FIELD_NAME: HTTPAddr under the prefix
// PAVANE is PAVANE_HTTP_ADDR. A nested struct adds its own name in between, an
// embedded one adds nothing. These tags are read:
//
//	default:"…"      the value when the variable is not set
//	required:"true"  the variable must be set and not be empty
//	secret:"true"    never printed; VARIABLE_FILE may name a file that holds it
//	desc:"…"         one sentence for the README and for -help
//	envconfig:"…"    another name in place of the field's
//	ignored:"true"   not a variable
package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// secretFileLimit is the most bytes a secret's file may hold; a key or a
// password needs far less, so more means that the path is wrong.
const secretFileLimit = 64 << 10

// Load fills cfg, a pointer to a struct, from the environment and checks it:
// every nested Validate() error is called first, cfg's own last. The error names
// each variable that is wrong, its value unless it is a secret, and the remedy;
// all of them at once, so that one start shows everything there is to mend. So it
// does for a variable that is no setting and all but has the name of one.
func Load(prefix string, cfg any) error {
	return errors.Join(mistyped(os.Environ(), prefix, cfg), load(os.LookupEnv, prefix, cfg))
}

// lookup is [os.LookupEnv] or a test's environment.
type lookup func(variable string) (value string, set bool)

func load(env lookup, prefix string, cfg any) error {
	fields, err := fieldsOf(prefix, cfg)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range fields {
		if err := f.load(env); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = validate(prefix, reflect.ValueOf(cfg).Elem())
	}
	return errors.Join(errs...)
}

// load sets the field from its file, its variable or its default.
func (f field) load(env lookup) error {
	text, set := env(f.variable)
	if f.secret {
		content, fromFile, err := f.loadFile(env, set)
		if err != nil {
			return err
		}
		if fromFile {
			text, set = content, true
		}
	}
	if !set {
		text = f.defaultText
	}
	if f.required && text == "" {
		return fmt.Errorf("config: %s is not set: %s", f.variable, f.remedy())
	}
	if !set && text == "" {
		return nil
	}
	return f.assign(text)
}

// loadFile reads the secret from the file that VARIABLE_FILE names.
func (f field) loadFile(env lookup, variableSet bool) (content string, ok bool, err error) {
	path, _ := env(f.fileVariable())
	if path == "" {
		return "", false, nil
	}
	if variableSet {
		return "", false, fmt.Errorf("config: %s and %s are both set: unset one of them", f.variable, f.fileVariable())
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", false, fmt.Errorf("config: %s=%q: %w: name a readable file", f.fileVariable(), path, err)
	}
	if info.IsDir() || info.Size() > secretFileLimit {
		return "", false, fmt.Errorf("config: %s=%q is a directory or larger than %d bytes: name a file that holds the secret alone",
			f.fileVariable(), path, secretFileLimit)
	}
	b, err := os.ReadFile(path) // #nosec G304 -- who sets the environment names the file
	if err != nil {
		return "", false, fmt.Errorf("config: %s=%q: %w: name a readable file", f.fileVariable(), path, err)
	}
	content = strings.TrimSpace(string(b))
	if content == "" {
		return "", false, fmt.Errorf("config: %s=%q is empty: write the secret into it", f.fileVariable(), path)
	}
	return content, true, nil
}

// assign converts text to the field's type. The conversion is envconfig's. It is
// given a struct of this one field without the envconfig tag, because with that
// tag it falls back to the name without the prefix, and a field named USER
// would silently take the login name.
func (f field) assign(text string) error {
	shadow := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value",
		Type: f.value.Type(),
		Tag:  reflect.StructTag(fmt.Sprintf("default:%q", text)),
	}}))
	if text == "" {
		return f.assignEmpty()
	}
	// The prefix is one that no environment sets, so the text given as default counts.
	err := envconfig.Process(shadowPrefix, shadow.Interface())
	if err == nil {
		f.value.Set(shadow.Elem().Field(0))
		return nil
	}
	if f.secret {
		return fmt.Errorf("config: %s (a secret, not shown) is no %s: %s", f.variable, f.typeName(), f.remedy())
	}
	var parse *envconfig.ParseError
	if errors.As(err, &parse) {
		err = parse.Err
	}
	return fmt.Errorf("config: %s=%q is no %s (%w): %s", f.variable, text, f.typeName(), err, f.remedy())
}

// assignEmpty handles a variable that is set to nothing: fine for text and
// lists, a fault for everything that has to be parsed.
func (f field) assignEmpty() error {
	switch f.value.Kind() {
	case reflect.String, reflect.Slice, reflect.Map:
		f.value.SetZero()
		return nil
	default:
		return fmt.Errorf("config: %s is set but empty, not a %s: unset it or %s", f.variable, f.typeName(), f.remedy())
	}
}

// validate calls Validate on the nested structs and then on v itself.
func validate(name string, v reflect.Value) []error {
	var errs []error
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		if t.IsExported() && isGroup(f) {
			errs = append(errs, validate(join(name, variableName(t), t.Anonymous), f)...)
		}
	}
	if c, ok := v.Addr().Interface().(interface{ Validate() error }); ok {
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("config: %s: %w", name, err))
		}
	}
	return errs
}
