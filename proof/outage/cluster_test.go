package outage_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"pavane/internal/await"
)

// Three brokers, each partition on all of them, two of which must acknowledge: the leaders of partitions, of the group
// and of the cluster are killed or shut down in turn under load. All goes on with one broker down, and nothing is lost
// or comes twice.
func TestCluster_BrokersGoAndComeUnderLoad_NothingIsLostOrTwice(t *testing.T) {
	n := needCluster(t, 6)
	cluster := startKafka(t, 3)
	var brokers []string
	for _, k := range cluster {
		brokers = append(brokers, k.Addr())
	}
	p := startPipeline(t, brokers, 3, gentle())
	rng := rand.New(rand.NewPCG(3, 0))
	for i := range n {
		<-moment(rng)
		k, before := cluster[i%3], p.load.sum(committed)
		how, begin := "kill -9 of", time.Now()
		if i%2 == 0 {
			k.Kill()
		} else {
			how = "restart of"
			restart(t, k) // first hands its partitions over
		}
		down := p.awaitEffect()
		if i%2 == 0 {
			restart(t, k)
		}
		back := p.awaitEffect()
		say(t, i+1, "%s broker %d after %d commits; next effect with it down %.1f s later, with it back %.1f s; %.1f s in all, %d commits meanwhile",
			how, i%3+1, before, down.Seconds(), back.Seconds(), time.Since(begin).Seconds(), p.load.sum(committed)-before)
		await.True(t, patience, "all replicas are in sync", func() bool {
			ok, err := k.InSync(t.Context())
			return err == nil && ok
		})
	}
	p.awaitQuiet()
	p.requireExact()
	if healed := p.healed(); healed != 0 {
		t.Errorf("the relays healed %v partitions; with two replicas left nothing is lost", healed)
	}
}
