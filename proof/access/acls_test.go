package access_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"pavane/internal/catalog"
	"pavane/shared/contract"
)

// needKafka leaves what needs a secured Kafka to those who ask for it.
func needKafka(t *testing.T) {
	t.Helper()
	if os.Getenv("PAVANE_PROOF") == "" {
		t.Skip("needs a real Kafka and a minute; PAVANE_PROOF=ci runs it")
	}
}

// makeTopics makes the services' topics, and one that is none of theirs.
func (c *cluster) makeTopics(t *testing.T) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10_000
	for _, topic := range append(slices.Clone(c.topics), namespace+"other.v1") {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 1, 1
		req.Topics = append(req.Topics, rt)
	}
	res, err := req.RequestWith(t.Context(), c.admin)
	must(t, err)
	for _, r := range res.Topics {
		must(t, kerr.ErrorForCode(r.ErrorCode))
	}
}

func TestKafka_EveryPrincipalTopicAndOperation_ExactlyTheAllowedOnes(t *testing.T) {
	needKafka(t)
	c := start(t)
	c.topics = topics()
	c.makeTopics(t)
	want := allowed(t)
	for _, p := range principals() {
		t.Run(p, func(t *testing.T) {
			client := c.as(t, p)
			var got []string
			for _, topic := range append(slices.Clone(c.topics), namespace+"other.v1") {
				for op, try := range onTopic() {
					if permitted(t, op+" "+topic, try(t.Context(), client, topic)) {
						got = append(got, op+" "+topic)
					}
				}
			}
			for _, group := range append(services(), "other") {
				for op, try := range onGroup() {
					if permitted(t, op+" "+group, try(t.Context(), client, namespace+group)) {
						got = append(got, op+" group "+namespace+group)
					}
				}
			}
			for op, try := range onCluster() {
				if permitted(t, op, try(t.Context(), client)) {
					got = append(got, op)
				}
			}
			slices.Sort(got)
			slices.Sort(want[p])
			if !slices.Equal(got, want[p]) {
				t.Errorf("may do\n  %s\nshould be\n  %s", strings.Join(got, "\n  "), strings.Join(want[p], "\n  "))
			}
		})
	}
}

// TestKafka_AllServicesUnderTheirOwnPrincipals_EverySagaPath takes every path of the saga once, and audits: what is
// allowed is enough.
func TestKafka_AllServicesUnderTheirOwnPrincipals_EverySagaPath(t *testing.T) {
	needKafka(t)
	c := start(t)
	bin := os.Getenv("PAVANE_BIN")
	if bin == "" {
		t.Fatal("PAVANE_BIN is not set: set it to the directory with the binaries of make build")
	}
	cmd := exec.CommandContext(t.Context(), bin+"/pavane", "up", "--smoke", "--no-open", "--kafka", c.kafka.SecureAddr(), "--kafka-users", c.users, "--namespace", namespace)
	cmd.Env = append(os.Environ(), "PAVANE_KAFKA_TLS=true", "PAVANE_KAFKA_CA_FILE="+c.ca, "PAVANE_KAFKA_MECHANISM=SCRAM-SHA-512",
		"PAVANE_KAFKA_USER=audit", "PAVANE_KAFKA_PASSWORD_FILE="+c.users+"/audit")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "smoke: ok") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func topics() []string {
	var names []string
	for _, topic := range slices.Sorted(maps.Values(contract.Topics())) {
		names = append(names, namespace+topic)
	}
	return names
}

func services() []string {
	return []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc", "gateway-svc"}
}

// allowed is what each principal may do, by the services' tables of reactions.
func allowed(t *testing.T) map[string][]string {
	t.Helper()
	saga, err := catalog.Read(os.DirFS("../.."))
	must(t, err)
	topicOf := map[string]string{}
	for _, e := range saga.Events {
		topicOf[e.Kind] = namespace + e.Topic
	}
	all := map[string]map[string]bool{}
	may := func(principal string, what ...string) {
		if all[principal] == nil {
			all[principal] = map[string]bool{}
		}
		for _, w := range what {
			all[principal][w] = true
		}
	}
	for _, topic := range topics() {
		for _, s := range services() {
			may(s, "describe "+topic, "describe configs "+topic)
		}
		may("gateway-svc", "read "+topic)
		may("audit", "describe "+topic, "describe configs "+topic, "read "+topic)
		may("migrate", "describe "+topic, "describe configs "+topic, "create "+topic)
	}
	for _, s := range saga.Services {
		for _, r := range s.Rows {
			if r.On != "" {
				may(s.Name, "read "+topicOf[r.On], "read group "+namespace+s.Name, "describe group "+namespace+s.Name)
			}
			for _, kind := range r.Emits {
				may(s.Name, "write "+topicOf[kind], "init producer", "read "+topicOf[kind])
			}
		}
	}
	lists := map[string][]string{}
	for p, what := range all {
		lists[p] = slices.Collect(maps.Keys(what))
	}
	return lists
}

// permitted tells whether an operation was allowed, whatever else came of it.
func permitted(t *testing.T, what string, err error) bool {
	t.Helper()
	for _, refused := range []error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed} {
		if errors.Is(err, refused) {
			return false
		}
	}
	var answer *kerr.Error
	if err != nil && !errors.As(err, &answer) {
		t.Fatalf("%s: %v", what, err)
	}
	return true
}

// answer is the error of a request or of its answer's code.
func answer(err error, code func() int16) error {
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(code())
}

func onTopic() map[string]func(context.Context, *kgo.Client, string) error {
	return map[string]func(context.Context, *kgo.Client, string) error{
		"describe": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrMetadataRequest()
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr(topic)
			req.Topics = append(req.Topics, rt)
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.Topics[0].ErrorCode })
		},
		"describe configs": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrDescribeConfigsRequest()
			rt := kmsg.NewDescribeConfigsRequestResource()
			rt.ResourceType, rt.ResourceName = kmsg.ConfigResourceTypeTopic, topic
			req.Resources = append(req.Resources, rt)
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.Resources[0].ErrorCode })
		},
		"read": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrFetchRequest()
			req.MaxBytes, req.SessionEpoch = 1<<20, -1
			rt := kmsg.NewFetchRequestTopic()
			rt.Topic = topic
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.PartitionMaxBytes = 1 << 20
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			res, err := c.Broker(1).Request(ctx, req)
			return answer(err, func() int16 {
				return res.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode
			})
		},
		"write": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrProduceRequest()
			req.Acks, req.TimeoutMillis = -1, 1000
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic = topic
			rp := kmsg.NewProduceRequestTopicPartition()
			rp.Records = []byte{} // no batch: refused, but only after the permission
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			res, err := c.Broker(1).Request(ctx, req)
			return answer(err, func() int16 {
				return res.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
			})
		},
		"create": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrCreateTopicsRequest()
			req.ValidateOnly = true
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 1, 1
			req.Topics = append(req.Topics, rt)
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.Topics[0].ErrorCode })
		},
		"delete": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrDeleteTopicsRequest()
			rt := kmsg.NewDeleteTopicsRequestTopic()
			rt.Topic = kmsg.StringPtr(topic)
			req.TopicNames, req.Topics = []string{topic}, append(req.Topics, rt)
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.Topics[0].ErrorCode })
		},
		"alter configs": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			req.ValidateOnly = true
			rt := kmsg.NewIncrementalAlterConfigsRequestResource()
			rt.ResourceType, rt.ResourceName = kmsg.ConfigResourceTypeTopic, topic
			rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			rc.Name, rc.Value = "retention.ms", kmsg.StringPtr("1")
			rt.Configs = append(rt.Configs, rc)
			req.Resources = append(req.Resources, rt)
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.Resources[0].ErrorCode })
		},
		"delete records": func(ctx context.Context, c *kgo.Client, topic string) error {
			req := kmsg.NewPtrDeleteRecordsRequest()
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rt.Topic = topic
			rp := kmsg.NewDeleteRecordsRequestTopicPartition()
			rp.Offset = 0
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			res, err := c.Broker(1).Request(ctx, req)
			return answer(err, func() int16 {
				return res.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode
			})
		},
	}
}

func onGroup() map[string]func(context.Context, *kgo.Client, string) error {
	return map[string]func(context.Context, *kgo.Client, string) error{
		"read": func(ctx context.Context, c *kgo.Client, group string) error {
			req := kmsg.NewPtrHeartbeatRequest()
			req.Group, req.MemberID = group, "nobody"
			res, err := c.Broker(1).Request(ctx, req)
			return answer(err, func() int16 { return res.(*kmsg.HeartbeatResponse).ErrorCode })
		},
		"describe": func(ctx context.Context, c *kgo.Client, group string) error {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Groups = []string{group}
			res, err := c.Broker(1).Request(ctx, req)
			return answer(err, func() int16 { return res.(*kmsg.DescribeGroupsResponse).Groups[0].ErrorCode })
		},
		"delete": func(ctx context.Context, c *kgo.Client, group string) error {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Groups = []string{group}
			res, err := c.Broker(1).Request(ctx, req)
			return answer(err, func() int16 { return res.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode })
		},
	}
}

func onCluster() map[string]func(context.Context, *kgo.Client) error {
	return map[string]func(context.Context, *kgo.Client) error{
		"init producer": func(ctx context.Context, c *kgo.Client) error {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.ProducerID, req.ProducerEpoch = -1, -1
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.ErrorCode })
		},
		"describe acls": func(ctx context.Context, c *kgo.Client) error {
			req := kmsg.NewPtrDescribeACLsRequest()
			req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.ErrorCode })
		},
		"create acls": func(ctx context.Context, c *kgo.Client) error {
			req := kmsg.NewPtrCreateACLsRequest()
			rc := kmsg.NewCreateACLsRequestCreation()
			rc.ResourceType, rc.ResourceName, rc.ResourcePatternType = kmsg.ACLResourceTypeTopic, "x", kmsg.ACLResourcePatternTypeLiteral
			rc.Principal, rc.Host, rc.Operation, rc.PermissionType = "User:x", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
			req.Creations = append(req.Creations, rc)
			res, err := req.RequestWith(ctx, c)
			return answer(err, func() int16 { return res.Results[0].ErrorCode })
		},
	}
}
