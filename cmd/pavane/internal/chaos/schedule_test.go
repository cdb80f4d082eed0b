package chaos

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/fault"
)

const (
	length = 5 * time.Minute
	every  = 3 * time.Second
)

func TestPlan_SameSeed_SameSchedule(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		first := Plan(seed, length, every, fault.Kinds())
		if again := Plan(seed, length, every, fault.Kinds()); !reflect.DeepEqual(first, again) {
			t.Fatalf("seed %d gave two schedules:\n%v\n%v", seed, first, again)
		}
		if other := Plan(seed+1, length, every, fault.Kinds()); reflect.DeepEqual(first, other) {
			t.Fatalf("seeds %d and %d gave the same schedule", seed, seed+1)
		}
	}
}

func TestPlan_AnySeed_FaultsOverlapButNeverAtOneResourceAndEndInTime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		free := map[string]time.Duration{}
		overlaps, latest := 0, time.Duration(0)
		plan := Plan(seed, length, every, fault.Kinds())
		for _, p := range plan {
			if p.At < free[p.Resource()] {
				t.Fatalf("seed %d: %s at %s, while its resource is broken until %s", seed, p.Spec, p.At, free[p.Resource()])
			}
			if p.At < leadIn || p.end() > length-leadOut {
				t.Fatalf("seed %d: %s from %s to %s, want from %s to %s", seed, p.Spec, p.At, p.end(), leadIn, length-leadOut)
			}
			if p.At < latest {
				overlaps++
			}
			free[p.Resource()], latest = p.end(), max(latest, p.end())
		}
		if n := len(plan); n < 60 || overlaps < n/3 {
			t.Fatalf("seed %d: %d faults, %d of them while others last", seed, n, overlaps)
		}
	}
}

func TestPlan_LongRun_EveryKindAndEveryTargetComes(t *testing.T) {
	t.Parallel()
	kinds, targets := map[string]int{}, map[string]bool{}
	plan := Plan(1, time.Hour, every, fault.Kinds())
	for _, p := range plan {
		kinds[p.Kind]++
		targets[p.String()] = true
	}
	for _, k := range fault.Kinds() {
		if fair := len(plan) / len(fault.Kinds()); kinds[k.Name] < fair/2 {
			t.Errorf("%s came %d times of %d, want about %d", k.Name, kinds[k.Name], len(plan), fair)
		}
		for _, service := range orNone(k.Services) {
			for _, server := range orNone(k.Servers) {
				if s := (fault.Spec{Kind: k.Name, Service: service, Server: server}); !targets[s.String()] {
					t.Errorf("%s never came", s)
				}
			}
		}
	}
}

func TestPossible_SomethingIsMissing_LeavesThatKindOutAndSaysSo(t *testing.T) {
	t.Parallel()
	whole := Plan(1, length, every, fault.Kinds())
	missing := func(kind string) error {
		if kind == "clock" {
			return errors.New("install it")
		}
		return nil
	}
	var told []string
	got := Possible(slices.Clone(whole), fault.Kinds(), missing, func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) })
	rest := slices.DeleteFunc(slices.Clone(whole), func(p Planned) bool { return p.Kind == "clock" })
	if len(rest) == len(whole) || !reflect.DeepEqual(got, rest) {
		t.Errorf("of %d faults %d are left, want the %d of other kinds as they were", len(whole), len(got), len(rest))
	}
	if len(told) != 1 || !strings.Contains(told[0], "install it") {
		t.Errorf("told: %q", told)
	}
}
