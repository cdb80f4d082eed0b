package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"pavane/shared/fault"
)

func TestClassOf_SeesThroughWrapping(t *testing.T) {
	t.Parallel()
	for want, err := range map[fault.Class]error{
		fault.ClassInvalid:     fault.Invalid("quantity %d", 0),
		fault.ClassNotFound:    fault.NotFound("order %q", "o-1"),
		fault.ClassConflict:    fault.Conflict("order is confirmed"),
		fault.ClassUnavailable: fault.Unavailable("database: %w", io.EOF),
		fault.ClassPermanent:   fault.Permanent("no such product"),
		fault.ClassUnknown:     io.EOF,
	} {
		if got := fault.ClassOf(fmt.Errorf("outer: %w", err)); got != want {
			t.Errorf("class of %v is %d, want %d", err, got, want)
		}
	}
	if !errors.Is(fault.Unavailable("database: %w", io.EOF), io.EOF) {
		t.Error("the cause is lost")
	}
}
