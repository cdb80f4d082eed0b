package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pavane/internal/leaks"
	"pavane/shared/lifecycle"
)

func TestMain(m *testing.M) {
	if os.Getenv("LIFECYCLE_TEST_CHILD") != "" {
		child()
		return
	}
	os.Exit(leaks.Main(m.Run))
}

// diary writes down what happened, in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, s)
}

func (d *diary) check(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.entries, want) {
		t.Errorf("got  %v\nwant %v", d.entries, want)
	}
}

// part is one that behaves, and tells the diary.
func (d *diary) part(name string) lifecycle.Part {
	return lifecycle.Part{
		Name:  name,
		Start: func(context.Context) error { d.add(name + " start"); return nil },
		Run:   func(ctx context.Context) error { <-ctx.Done(); d.add(name + " end"); return ctx.Err() },
		Stop:  func(context.Context) error { d.add(name + " stop"); return nil },
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestRun_ContextEnds_StopsInReverseOrderOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var d diary
		time.AfterFunc(time.Second, cancel)
		if err := lifecycle.Run(ctx, quiet(), d.part("a"), d.part("b"), d.part("c")); err != nil {
			t.Errorf("an ordinary stop is an error: %v", err)
		}
		d.check(t, "a start", "b start", "c start", "c stop", "c end", "b stop", "b end", "a stop", "a end")
	})
}

func TestRun_PartFails_StopsTheRestAndReturnsItsError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		broken := errors.New("broken")
		b := lifecycle.Part{Name: "b", Run: func(context.Context) error { time.Sleep(time.Second); return broken }}
		err := lifecycle.Run(t.Context(), quiet(), d.part("a"), b, d.part("c"))
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "b: run") {
			t.Errorf("got %v", err)
		}
		d.check(t, "a start", "c start", "c stop", "c end", "a stop", "a end")
	})
}

func TestRun_StartFails_StopsWhatHasStartedAndNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		taken := errors.New("port taken")
		b := d.part("b")
		b.Start = func(context.Context) error { return taken }
		if err := lifecycle.Run(t.Context(), quiet(), d.part("a"), b, d.part("c")); !errors.Is(err, taken) {
			t.Errorf("got %v", err)
		}
		d.check(t, "a start", "a stop", "a end")
	})
}

func TestRun_ContextEndsDuringStart_PartIsNotRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var d diary
		b := d.part("b")
		b.Start = func(ctx context.Context) error { cancel(); return ctx.Err() }
		if err := lifecycle.Run(ctx, quiet(), d.part("a"), b, d.part("c")); err != nil {
			t.Errorf("a start that was called off is an error: %v", err)
		}
		d.check(t, "a start", "a stop", "a end")
	})
}

func TestRun_PartPanics_BecomesAnErrorWithTheStackLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		bad := lifecycle.Part{Name: "bad", Run: func(context.Context) error { panic("boom") }}
		err := lifecycle.Run(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), bad)
		if err == nil || !strings.Contains(err.Error(), "bad: run panicked: boom") {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(log.String(), "lifecycle_test.go") {
			t.Errorf("the log lacks the stack: %s", log.String())
		}
	})
}

func TestRun_PartEndsWithoutError_TheOthersGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var d diary
		once := lifecycle.Part{Name: "once", Run: func(context.Context) error { d.add("done"); return nil }}
		begin := time.Now()
		if err := lifecycle.Run(ctx, quiet(), once, d.part("a")); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("it ended after %s", took)
		}
	})
}

func TestRun_AllWorkDone_Ends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		work := lifecycle.Part{Name: "w", Run: func(context.Context) error { time.Sleep(time.Second); return nil }}
		if err := lifecycle.Run(t.Context(), quiet(), work, work); err != nil {
			t.Error(err)
		}
	})
}

func TestRun_PartThatIgnoresItsContext_IsNamedAtTheDeadlineAndTheRestStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel0 := make(chan struct{})
		defer close(cancel0)
		time.AfterFunc(time.Second, cancel)
		var d diary
		deaf := lifecycle.Part{Name: "deaf", Run: func(context.Context) error { <-cancel0; return nil }}
		begin := time.Now()
		err := lifecycle.Run(ctx, quiet(), d.part("a"), deaf)
		if err == nil || !strings.Contains(err.Error(), "deaf did not stop") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took > time.Second+lifecycle.StopWithin+2*time.Second {
			t.Errorf("it took %s", took)
		}
		d.check(t, "a start", "a stop", "a end")
	})
}

func TestRun_StopThatHangs_DoesNotHoldTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		free := make(chan struct{})
		defer close(free)
		cancel()
		time.AfterFunc(0, cancel)
		hangs := lifecycle.Part{Name: "h", Stop: func(context.Context) error { <-free; return nil }}
		err := lifecycle.Run(ctx, quiet(), hangs)
		if err == nil || !strings.Contains(err.Error(), "h: stop did not return") {
			t.Errorf("got %v", err)
		}
	})
}

// child is this test binary as a process that stops badly.
func child() {
	ctx, stop := lifecycle.Signals(context.Background())
	defer stop()
	os.Stdout.WriteString("ready\n")
	<-ctx.Done()
	os.Stdout.WriteString(context.Cause(ctx).Error() + "\n")
	if os.Getenv("LIFECYCLE_TEST_CHILD") == "hang" {
		select {}
	}
}

func TestSignals_FirstCancels_SecondExitsWithOne(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]int{"polite": 0, "hang": 1} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), "LIFECYCLE_TEST_CHILD="+mode)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			expect(t, out.Read, "ready")
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			expect(t, out.Read, "signal terminated")
			if mode == "hang" {
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
			}
			cmd.Wait() //nolint:errcheck // the code is what counts
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
		})
	}
}

func expect(t *testing.T, read func([]byte) (int, error), want string) {
	t.Helper()
	b := make([]byte, 100)
	n, err := read(b)
	if err != nil || !strings.Contains(string(b[:n]), want) {
		t.Fatalf("read %q, %v; want %q", b[:n], err, want)
	}
}

func TestSignals_Stop_LeavesNothingAndEndsTheContext(t *testing.T) {
	t.Parallel()
	ctx, stop := lifecycle.Signals(t.Context())
	stop()
	stop()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
}
