package compose

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/await"
	"pavane/internal/devstack"
)

const (
	service = "notification-svc"
	limit   = 60 * time.Second
)

// open is the stack of compose.yaml that deploy/compose-test.sh has brought up: its
// project is PAVANE_COMPOSE, and PAVANE_DIR says where its servers are.
func open(t *testing.T) *Stack {
	t.Helper()
	project := os.Getenv("PAVANE_COMPOSE")
	if project == "" {
		t.Skip("PAVANE_COMPOSE names no stack of compose.yaml; make compose-test brings one up")
	}
	state, err := stack.Load(stack.DefaultDir())
	must(t, err)
	s := &Stack{project: project, state: state}
	must(t, s.attach(t.Context(), "/var/run/docker.sock"))
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// now is how the container of a name is, and which of its lives it is.
func now(t *testing.T, s *Stack, name string) container {
	t.Helper()
	id, err := s.find(bounded(t), name)
	must(t, err)
	c, err := s.docker.inspect(bounded(t), id)
	must(t, err)
	return c
}

// The tests below are about one stack and run one after the other.

func TestKill_OnReturn_RunsInAnotherLife(t *testing.T) {
	s := open(t)
	for name, do := range map[string]func(context.Context, string) error{"Kill": s.Kill, "Restart": s.Restart} {
		before := now(t, s, service)
		must(t, do(bounded(t), service))
		if after := now(t, s, service); !after.State.Running || after.State.StartedAt == before.State.StartedAt || after.ID != before.ID {
			t.Errorf("%s: %+v, then %+v; want another life of the same container", name, before.State, after.State)
		}
	}
}

func TestPause_OnReturn_IsFrozenUntilResumed(t *testing.T) {
	s := open(t)
	must(t, s.Pause(bounded(t), service))
	if !now(t, s, service).State.Paused {
		t.Error("it is not paused")
	}
	must(t, s.Resume(bounded(t), service))
	if now(t, s, service).State.Paused {
		t.Error("it is still paused")
	}
}

func TestDown_OnReturn_IsGoneUntilUp(t *testing.T) {
	s := open(t)
	for _, hard := range []bool{false, true} {
		must(t, s.Down(bounded(t), stack.Postgres, hard))
		if now(t, s, stack.Postgres).State.Running {
			t.Errorf("hard %t: Postgres runs", hard)
		}
		must(t, s.Up(bounded(t), stack.Postgres))
		must(t, fault.SlowDisk(bounded(t), s.state.Postgres, 0)) // it answers
	}
}

func TestSecond_RunsBesideTheFirst_UntilStopped(t *testing.T) {
	s := open(t)
	count := func() int {
		all, err := s.docker.list(bounded(t), labelProject+"="+s.project, labelService+"="+service)
		must(t, err)
		return len(all)
	}
	first := now(t, s, service)
	stop, err := s.Second(bounded(t), service)
	must(t, err)
	if count() != 2 || now(t, s, service).ID != first.ID {
		t.Errorf("%d containers, want two, the first one found as before", count())
	}
	if _, err := s.Second(bounded(t), service); err == nil {
		t.Error("there is a third one")
	}
	second, err := s.docker.list(bounded(t), labelProject+"="+s.project, labelSecond)
	must(t, err)
	await.True(t, limit, "the second one is healthy: it has all that the first was given", func() bool {
		c, err := s.docker.inspect(bounded(t), second[0].ID)
		return err == nil && c.State.Health.Status == "healthy"
	})
	must(t, stop(bounded(t)))
	if count() != 1 {
		t.Errorf("%d containers after the stop", count())
	}
	_, err = s.Second(bounded(t), service)
	must(t, err)
	if open(t); count() != 1 {
		t.Error("a next life does not take away what one has left")
	}
}

func TestMoveClock_OnReturn_PostgresHasTheTimeThroughRestarts(t *testing.T) {
	s := open(t)
	must(t, s.Missing(bounded(t), fault.Clock))
	must(t, s.MoveClock(bounded(t), -time.Hour))
	must(t, s.Down(bounded(t), stack.Postgres, true))
	must(t, s.Up(bounded(t), stack.Postgres))
	must(t, devstack.AwaitClock(bounded(t), s.state.Postgres, -time.Hour))
	must(t, s.MoveClock(bounded(t), 0))
}

func TestFind_NoSuchContainer_SaysWhatToDo(t *testing.T) {
	s := open(t)
	if err := s.Pause(bounded(t), "bank-svc"); err == nil || !strings.Contains(err.Error(), "docker compose up") {
		t.Errorf("%v", err)
	}
	s.project = "other-" + s.project
	if err := s.Missing(bounded(t), fault.Clock); err == nil {
		t.Error("another project's Postgres is not found, and nothing is missing")
	}
}

func TestDial_NothingThere_SaysWhatToDo(t *testing.T) {
	t.Parallel()
	if _, err := dialDocker(t.Context(), t.TempDir()+"/docker.sock"); err == nil || !strings.Contains(err.Error(), "mount the socket") {
		t.Errorf("%v", err)
	}
}
