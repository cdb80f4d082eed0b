package broker

import (
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
)

func TestTopic_ThreeReplicas_AreWrittenToTwoAtLeast(t *testing.T) {
	t.Parallel()
	for want, topic := range map[string]Topic{
		"":  {ReplicationFactor: 2},
		"2": {ReplicationFactor: 3},
		"3": {ReplicationFactor: 5, Configs: map[string]string{"min.insync.replicas": "3"}},
	} {
		if got := topic.configs()["min.insync.replicas"]; got != want {
			t.Errorf("%+v is created with min.insync.replicas=%q, want %q", topic, got, want)
		}
	}
}

func TestCheckSettings_OneOfThreeReplicasSuffices_IsRefusedWithTheRemedy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		replicas int
		inSync   string
		want     string // in the error; empty: there is none
	}{
		{3, "1", "topic t has 3 replicas and min.insync.replicas=1"},
		{3, "1", "--entity-name t --add-config min.insync.replicas=2"},
		{3, "2", ""},
		{2, "1", ""},
		{1, "1", ""},
	} {
		err := checkSettings(kafka.DescribeConfigResponseResource{ResourceName: "t", ConfigEntries: []kafka.DescribeConfigResponseConfigEntry{
			{ConfigName: "cleanup.policy", ConfigValue: "delete"}, {ConfigName: "min.insync.replicas", ConfigValue: c.inSync},
		}}, c.replicas)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d replicas, %s in sync: %v, want %q", c.replicas, c.inSync, err, c.want)
		}
	}
}
