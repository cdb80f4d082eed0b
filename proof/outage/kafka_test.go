package outage_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"pavane/internal/devstack"
)

// restart brings a broker back and returns how long that took.
func restart(t *testing.T, k *devstack.Kafka) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, k.Restart(ctx))
	return time.Since(begin)
}

// moment is a time within the load, for a fault to come at.
func moment(rng *rand.Rand) <-chan time.Time {
	return time.After(time.Duration(100+rng.IntN(400)) * time.Millisecond)
}

// The only broker is killed while all write and read. It loses nothing by that, and nobody publishes or applies
// anything twice.
func TestKafka_KilledUnderLoad_NothingIsLostOrTwice(t *testing.T) {
	n := needKafka(t, 10)
	k := startKafka(t, 1)[0]
	p := startPipeline(t, []string{k.Addr()}, 1, gentle())
	rng := rand.New(rand.NewPCG(10, 0))
	for i := range n {
		<-moment(rng)
		before := p.load.sum(committed)
		k.Kill()
		up := restart(t, k)
		through := p.awaitEffect()
		say(t, i+1, "kill -9 after %d commits; up after %.1f s, next effect %.1f s later; %d commits went on meanwhile",
			before, up.Seconds(), through.Seconds(), p.load.sum(committed)-before)
	}
	p.awaitQuiet()
	p.requireExact()
	if healed := p.healed(); healed != 0 {
		t.Errorf("the relays healed %v partitions; a killed broker loses nothing", healed)
	}
}
