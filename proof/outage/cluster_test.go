package outage_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/shared/broker"
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
	requireTwoInSync(t, brokers)
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

// requireTwoInSync demands that a topic is refused that is content with one of its
// three replicas, and that none is made so unless somebody says so.
func requireTwoInSync(t *testing.T, brokers []string) {
	t.Helper()
	client, err := broker.Dial(broker.Config{Brokers: brokers})
	must(t, err)
	defer client.Close()
	safe := broker.Topic{Name: "safe", Partitions: 1, ReplicationFactor: 3}
	weak := broker.Topic{Name: "weak", Partitions: 1, ReplicationFactor: 3, Configs: map[string]string{"min.insync.replicas": "1"}}
	must(t, client.EnsureTopics(t.Context(), []broker.Topic{safe, weak}))
	must(t, client.CheckTopics(t.Context(), []broker.Topic{safe}))
	if err := client.CheckTopics(t.Context(), []broker.Topic{safe, weak}); err == nil || !strings.HasPrefix(err.Error(), "topic weak has 3 replicas and min.insync.replicas=1") {
		t.Errorf("the check of a topic that is content with one of three replicas says %v", err)
	}
}
