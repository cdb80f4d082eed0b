package devstack

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestMoveClock_RunningServer_AllItsSessionsFollowThroughRestarts is skipped where
// libfaketime is missing, but not in CI, which installs it.
func TestMoveClock_RunningServer_AllItsSessionsFollowThroughRestarts(t *testing.T) {
	t.Parallel()
	if _, err := Faketime(); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	p := startTestPostgres(t, PostgresConfig{MovableClock: true})
	off := func() time.Duration {
		now, err := time.Parse(time.RFC3339, query(t, p.URL("postgres"), `select to_char(clock_timestamp(), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`))
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(now).Round(10 * time.Minute)
	}
	for _, by := range []time.Duration{time.Hour, -time.Hour, 0} {
		if err := p.MoveClock(testContext(t), by); err != nil || off() != by {
			t.Errorf("moved by %s the clock is %s off (%v)", by, off(), err)
		}
		p.Kill()
		if err := p.Restart(testContext(t)); err != nil || off() != by {
			t.Errorf("after a crash the clock is %s off, want %s (%v)", off(), by, err)
		}
	}
}

func TestMoveClock_ServerOfAFixedClock_SaysWhatToDo(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, PostgresConfig{})
	if err := p.MoveClock(testContext(t), time.Hour); err == nil || !strings.Contains(err.Error(), "start it again") {
		t.Errorf("%v", err)
	}
}
