package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// mistyped returns an error for each variable of the environment that is no
// setting of cfg and differs in one letter, two that changed places, or underscores
// from one that is and is not set: it would count for nothing, and its default
// would. Other names are left alone: they may be for somebody else.
func mistyped(environ []string, prefix string, cfg any) error {
	fields, err := fieldsOf(prefix, cfg)
	if err != nil {
		return nil //nolint:nilerr // load says it
	}
	set := make([]string, len(environ))
	for i, e := range environ {
		set[i], _, _ = strings.Cut(e, "=")
	}
	var known []string
	for _, f := range fields {
		known = append(known, f.variable)
		if f.secret {
			known = append(known, f.fileVariable())
		}
	}
	var errs []error
	for _, name := range set {
		if !strings.HasPrefix(name, strings.ToUpper(prefix)+"_") || slices.Contains(known, name) {
			continue
		}
		for _, k := range known {
			if alike(name, k) && !slices.Contains(set, k) {
				errs = append(errs, fmt.Errorf("config: %s is set and no setting: name it %s, or unset it", name, k))
			}
		}
	}
	return errors.Join(errs...)
}

// alike says whether two names that are not equal could be meant as one.
func alike(a, b string) bool {
	return oneEdit(a, b) || strings.ReplaceAll(a, "_", "") == strings.ReplaceAll(b, "_", "")
}

// oneEdit says whether one letter more, less or changed, or two that change places,
// make one of two different texts the other.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 0:
		return a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
	case 1:
		return a[i:] == b[i+1:]
	}
	return false
}
