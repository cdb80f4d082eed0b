package proc

import (
	"os"
	"testing"
	"time"
)

func TestOf_ProcessThatWorks_ItsTimeGrows(t *testing.T) {
	t.Parallel()
	before, ok := Of(os.Getpid())
	if !ok {
		t.Fatal("this process is not in /proc")
	}
	if before.Parent != os.Getppid() || before.Private <= 0 {
		t.Errorf("got %+v of process %d, child of %d", before, os.Getpid(), os.Getppid())
	}
	if resident, peak := Memory(os.Getpid()); resident <= 0 || peak < resident {
		t.Errorf("%d bytes resident, %d at most", resident, peak)
	}
	machine := Now()
	deadline := time.Now().Add(10 * time.Second)
	for {
		now, _ := Of(os.Getpid())
		if now.CPU >= before.CPU+30*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no time was counted: %v after %v", now.CPU, before.CPU)
		}
	}
	if d := Now().Sub(machine); d.Total < 20*time.Millisecond || d.Idle+d.Stolen > d.Total {
		t.Errorf("the machine's time: %+v", d)
	}
}

func TestThreads_ProcessThatWorks_TheirTimeIsItsOwn(t *testing.T) {
	t.Parallel()
	threads := Threads(os.Getpid())
	if len(threads) == 0 {
		t.Fatal("this process has no threads")
	}
	var sum time.Duration
	for _, st := range threads {
		if st.Name == "" {
			t.Errorf("thread %d has no name", st.PID)
		}
		sum += st.CPU
	}
	// Each has less than a tick that does not show.
	if whole, _ := Of(os.Getpid()); sum > whole.CPU+time.Duration(len(threads))*10*time.Millisecond {
		t.Errorf("threads used %v, all of the process %v", sum, whole.CPU)
	}
}
