// Package outage_test owns the tests in which servers crash, lose what they had acknowledged, or go away, while the
// kit's whole way runs in processes of its own: writers → outbox → relays → Kafka → consumer → effects.
//
// PAVANE_PROOF says how much is done: nothing for what runs without Java and in seconds, "ci" for the numbers that a
// change must pass, "cluster" for what needs three brokers, "full" for all of it and five times as much.
package outage_test

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// session is short: after a kill -9 of the broker the group waits for the members that it had before, and each round
// with it.
const session = 2 * time.Second

func TestMain(m *testing.M) {
	if job := os.Getenv(jobEnv); job != "" {
		if err := work(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// rounds returns how many rounds a test has: few, what CI asks for, or five times that.
func rounds(t *testing.T, few, ci int) int {
	t.Helper()
	switch size := os.Getenv("PAVANE_PROOF"); size {
	case "", "cluster":
		return few
	case "ci":
		return ci
	case "full":
		return 5 * ci
	default:
		t.Fatalf(`PAVANE_PROOF is %q; want nothing, "ci", "cluster" or "full"`, size)
		return 0
	}
}

// needKafka leaves a test that needs a real Kafka to the larger sizes.
func needKafka(t *testing.T, ci int) int {
	t.Helper()
	n := rounds(t, 0, ci)
	if n == 0 {
		t.Skip("needs a real Kafka and minutes; PAVANE_PROOF=ci runs it")
	}
	return n
}

// needCluster leaves a test that needs three brokers to those who ask for it: they take more of a machine than CI may
// have.
func needCluster(t *testing.T, n int) int {
	t.Helper()
	switch os.Getenv("PAVANE_PROOF") {
	case "cluster":
		return n
	case "full":
		return 5 * n
	}
	t.Skip("needs three brokers; PAVANE_PROOF=cluster runs it")
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
