// Package answers_test owns the proof against lost answers: whichever request to
// Kafka or Postgres goes wrong, each event is in the log once and has its effect
// once, in the order of its key.
package answers_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"pavane/internal/leaks"
	"pavane/shared/pgtest"
)

// atOnce is how many lanes run side by side. They mostly wait for timeouts, so
// there are more of them than cores.
const atOnce = "21"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(leaks.Main(func() int { return pgtest.Main(m) }))
}

// size is how much a run is to prove.
type size struct {
	saga   bool // also the five services as processes
	rounds int  // how many times each fault strikes each kind, at the 1st, 2nd … request; 0: two faults for most kinds
	lanes  int  // among which that is dealt out
}

// proofSize reads PAVANE_PROOF: empty for a run among the other tests, "ci" for
// at least 500 faults, "full" for as many as have a point. More than the first
// takes a Postgres with many connections, such as internal/teststack starts.
func proofSize(t testing.TB) size {
	t.Helper()
	switch mode := os.Getenv("PAVANE_PROOF"); mode {
	case "":
		return size{lanes: 6}
	case "ci":
		return ciSize()
	case "full":
		return size{saga: true, rounds: 25, lanes: 125}
	default:
		t.Fatalf("PAVANE_PROOF=%q: want nothing, ci or full", mode)
		return size{}
	}
}

// ciSize is for at least 500 faults.
func ciSize() size { return size{saga: true, rounds: 5, lanes: 20} }
