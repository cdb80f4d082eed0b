package failpoint

import (
	"context"
	"testing"
	"time"
)

func TestHit_WithoutSet_IsInert(t *testing.T) {
	t.Parallel()
	if err := Hit(t.Context(), "relay.after_ack"); err != nil {
		t.Error(err)
	}
}

func TestHit_ActsAtTheGivenHitOnly(t *testing.T) {
	t.Parallel()
	s, err := Parse("a=error@2; b=kill")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	s.kill = func() { killed++ }
	ctx := With(t.Context(), s)
	for hit := 1; hit <= 3; hit++ {
		if err := Hit(ctx, "a"); (err != nil) != (hit == 2) {
			t.Errorf("hit %d of a: %v", hit, err)
		}
	}
	for range 2 {
		if err := Hit(ctx, "b"); err != nil {
			t.Error(err)
		}
	}
	if killed != 1 {
		t.Errorf("killed %d times, want once", killed)
	}
	if got := s.Hits(); got["a"] != 3 || got["b"] != 2 {
		t.Errorf("hits %v", got)
	}
}

func TestHit_StallEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s, err := Parse("a=1h")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(With(t.Context(), s), time.Millisecond)
	defer cancel()
	if err := Hit(ctx, "a"); err == nil {
		t.Error("the stall outlived its context")
	}
}

func TestParse_BadSpec_SaysWhatToMend(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a", "a=", "a=explode", "a=kill@0", "a=kill@x"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
