// Package fault owns the classes of failure. The class of an error is an
// instruction: HTTP turns it into a status, a reaction into a retry or a parked
// key. Business refusals are events, never faults.
package fault

import (
	"errors"
	"fmt"
)

// Class says what to do about an error.
type Class int

// The classes. An error without a class is Unknown and is treated as
// transient: it is tried again.
const (
	ClassUnknown     Class = iota
	ClassInvalid           // the input is wrong; mend it (422)
	ClassNotFound          // no such thing, or not the caller's (404)
	ClassConflict          // the thing is in another state (409)
	ClassUnavailable       // try again later (503)
	ClassPermanent         // trying again cannot help; park the key
)

type classed struct {
	class Class
	err   error
}

func (c *classed) Error() string { return c.err.Error() }
func (c *classed) Unwrap() error { return c.err }

// ClassOf returns the class of the outermost classed error in err's chain.
func ClassOf(err error) Class {
	var c *classed
	if errors.As(err, &c) {
		return c.class
	}
	return ClassUnknown
}

// Invalid says that the input is wrong. Format and args are those of
// [fmt.Errorf]; the text should say what to mend.
func Invalid(format string, args ...any) error { return wrap(ClassInvalid, format, args) }

// NotFound says that there is no such thing, or that it is not the caller's.
func NotFound(format string, args ...any) error { return wrap(ClassNotFound, format, args) }

// Conflict says that the thing is in a state that forbids the request.
func Conflict(format string, args ...any) error { return wrap(ClassConflict, format, args) }

// Unavailable says that something needed does not answer now.
func Unavailable(format string, args ...any) error { return wrap(ClassUnavailable, format, args) }

// Permanent says that trying again cannot help. A reaction that returns it has
// its key parked, with everything that follows on that key.
func Permanent(format string, args ...any) error { return wrap(ClassPermanent, format, args) }

func wrap(class Class, format string, args []any) error {
	return &classed{class: class, err: fmt.Errorf(format, args...)}
}
