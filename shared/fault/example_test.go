package fault_test

import (
	"errors"
	"fmt"

	"pavane/shared/fault"
)

func ExampleClassOf() {
	for _, err := range []error{
		fault.Invalid("quantity %d: order at least 1", 0),
		fault.NotFound("there is no order %q", "o-9"),
		fault.Conflict("order %q is confirmed", "o-1"),
		fmt.Errorf("ask the payment service: %w", fault.Unavailable("no instance answers")),
		fault.Permanent("unknown currency %q", "XXX"),
		errors.New("connection reset"),
	} {
		switch fault.ClassOf(err) {
		case fault.ClassInvalid, fault.ClassNotFound, fault.ClassConflict:
			fmt.Println("tell the caller:", err)
		case fault.ClassPermanent:
			fmt.Println("park the key:   ", err)
		default:
			fmt.Println("try again:      ", err)
		}
	}
	// Output:
	// tell the caller: quantity 0: order at least 1
	// tell the caller: there is no order "o-9"
	// tell the caller: order "o-1" is confirmed
	// try again:       ask the payment service: no instance answers
	// park the key:    unknown currency "XXX"
	// try again:       connection reset
}
