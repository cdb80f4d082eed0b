package outage_test

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"pavane/shared/brokertest"
)

// Postgres is stopped at once or killed, in turn, while all write and read: nothing that was told to be committed is
// lost, and nothing comes twice.
func TestPostgres_CrashesUnderLoad_NothingIsLostOrTwice(t *testing.T) {
	n := rounds(t, 2, 30)
	var brokers []string
	if os.Getenv("PAVANE_PROOF") == "" {
		brokers = []string{brokertest.Start(t)}
	} else {
		brokers = []string{startKafka(t, 1)[0].Addr()}
	}
	p := startPipeline(t, brokers, 1, steady())
	rng := rand.New(rand.NewPCG(30, 0))
	for i := range n {
		<-time.After(time.Duration(100+rng.IntN(400)) * time.Millisecond) // a moment of the load
		before := [...]int{p.load.sum(committed), p.load.sum(unknown), p.load.sum(failed)}
		how := "kill -9"
		if i%2 == 0 {
			how = "immediate stop"
			must(t, p.postgres.StopImmediate(t.Context()))
		} else {
			p.postgres.Kill()
		}
		down := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		must(t, p.postgres.Restart(ctx))
		cancel()
		up := time.Since(down)
		through := p.awaitEffect()
		say(t, i+1, "%s after %d commits; up after %.1f s, next effect %.1f s later; %d commits of unknown outcome, %d failed",
			how, before[0], up.Seconds(), through.Seconds(), p.load.sum(unknown)-before[1], p.load.sum(failed)-before[2])
	}
	p.awaitQuiet()
	p.requireExact()
	say(t, n, "in all %d commits, %d of unknown outcome, %d failed", p.load.sum(committed), p.load.sum(unknown), p.load.sum(failed))
}
