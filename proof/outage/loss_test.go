package outage_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/logcut"
)

// loss is one way in which a broker loses the end of its log.
type loss struct {
	name  string
	cuts  func(rng *rand.Rand) map[int]logcut.Cut // by partition
	quiet bool                                    // all has been published and read before, and nothing is written afterwards
}

func losses() []loss {
	some := func(rng *rand.Rand) logcut.Cut { return logcut.Cut{Batches: 1 + rng.IntN(30)} }
	every := func(one func(rng *rand.Rand) logcut.Cut) func(rng *rand.Rand) map[int]logcut.Cut {
		return func(rng *rand.Rand) map[int]logcut.Cut {
			cuts := map[int]logcut.Cut{}
			for n := range partitions {
				cuts[n] = one(rng)
			}
			return cuts
		}
	}
	half := func(one func(rng *rand.Rand) logcut.Cut) func(rng *rand.Rand) map[int]logcut.Cut {
		return func(rng *rand.Rand) map[int]logcut.Cut {
			cuts := map[int]logcut.Cut{}
			for _, n := range rng.Perm(partitions)[:partitions/2] {
				cuts[n] = one(rng)
			}
			return cuts
		}
	}
	all := func(*rand.Rand) logcut.Cut { return logcut.Cut{All: true} }
	last := func(*rand.Rand) logcut.Cut { return logcut.Cut{Batches: 1} }
	return []loss{
		{name: "everything of half of the partitions", cuts: half(all)},
		{name: "the last batches of every partition, read by all, and nothing is written after", cuts: every(some), quiet: true},
		{name: "every partition in mid-batch", cuts: every(func(rng *rand.Rand) logcut.Cut { return logcut.Cut{Batches: rng.IntN(10), Torn: true} })},
		{name: "everything of half of the partitions, read by all, and nothing is written after", cuts: half(all), quiet: true},
		{name: "everything", cuts: every(all)},
		{name: "the last batches of every partition", cuts: every(some)},
		{name: "the last batch of every partition", cuts: every(last)},
		{name: "the last batches of half of the partitions", cuts: half(some)},
		{name: "half of the partitions in mid-batch", cuts: half(func(rng *rand.Rand) logcut.Cut { return logcut.Cut{Batches: rng.IntN(40), Torn: true} })},
		{name: "the last batch of half of the partitions, read by all, and nothing is written after", cuts: half(last), quiet: true},
	}
}

// The broker loses records that it had acknowledged. The relays put them back from the outbox and count it; the log is
// again what the outbox is, and every effect is there once, also of consumers that had read what was lost.
func TestKafka_LosesAcknowledgedRecords_LogIsHealedFromTheOutbox(t *testing.T) {
	n := needKafka(t, 10)
	k := startKafka(t, 1)[0]
	p := startPipeline(t, []string{k.Addr()}, 1, gentle())
	rng := rand.New(rand.NewPCG(45, 0))
	for i := range n {
		l := losses()[i%len(losses())]
		<-moment(rng)
		before := p.healed()
		if l.quiet {
			p.awaitQuiet()
		}
		k.Kill()
		lost := 0
		cuts := l.cuts(rng)
		for partition, c := range cuts {
			records, err := c.Apply(filepath.Join(k.Dir(), "data"), topic, partition)
			must(t, err)
			lost += records
		}
		up, begin := restart(t, k), time.Now()
		if !l.quiet {
			p.awaitEffect()
			p.load.stop()
		}
		p.awaitWhole()
		whole := time.Since(begin)
		p.requireExact()
		// It is counted a moment after the log is whole.
		await.True(t, patience, "the relays have counted that they healed", func() bool { return lost == 0 || p.healed() > before })
		healed := p.healed() - before
		say(t, i+1, "cut off %s: %d acknowledged records of %d partitions lost; up after %.1f s, whole %.1f s later; %v partitions healed",
			l.name, lost, len(cuts), up.Seconds(), whole.Seconds(), healed)
		if lost == 0 {
			t.Errorf("round %d: nothing was lost, so it proves nothing", i+1)
		}
		if t.Failed() {
			t.Fatalf("round %d (%s) failed", i+1, l.name)
		}
		p.load.start()
		p.awaitEffect()
	}
	p.load.stop()
}
