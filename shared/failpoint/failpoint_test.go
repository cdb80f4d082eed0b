package failpoint

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

// Two lives: the first dies at the second hit, the second at the first, and what
// lives after them is left alone.
func TestOpen_Script_EachLifeFollowsItsLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "shop-svc")
	if err := Write(path, "a=kill@2", "b=kill"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s, err := Open("@"+dir, "shop-svc")
		if err != nil {
			t.Fatal(err)
		}
		alive := true
		s.kill = func() { alive = false }
		for _, point := range []string{"a", "a", "b", "c"} {
			if alive {
				if err := Hit(With(t.Context(), s), point); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	deaths, err := os.ReadFile(Deaths(path))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("a@2 %[1]d\nb@1 %[1]d\n", os.Getpid()); string(deaths) != want {
		t.Errorf("deaths are noted as %q, want %q", deaths, want)
	}
}

// The script is written while the process runs, and hits count from then on.
func TestOpen_ScriptWrittenLater_IsFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open("@"+dir, "shop-svc")
	if err != nil {
		t.Fatal(err)
	}
	ctx := With(t.Context(), s)
	for range 3 {
		if err := Hit(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(filepath.Join(dir, "shop-svc"), "a=error@2"); err != nil {
		t.Fatal(err)
	}
	for hit := 1; hit <= 3; hit++ {
		if err := Hit(ctx, "a"); (err != nil) != (hit == 2) {
			t.Errorf("hit %d after the script was written: %v", hit, err)
		}
	}
}
