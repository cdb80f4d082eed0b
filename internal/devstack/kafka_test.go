package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// lacksKafka is for machines that cannot run Kafka: it checks that StartKafka says so and what to do.
func lacksKafka(t *testing.T) bool {
	t.Helper()
	if HaveKafka(testContext(t)) == nil {
		return false
	}
	if _, err := StartKafka(testContext(t), KafkaConfig{CacheDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "install") {
		t.Errorf("StartKafka without its needs: %v", err)
	}
	return true
}

// makeOrders makes the topic that producer writes to.
func makeOrders(t *testing.T, addr string) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "orders", 2, 1
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(testContext(t), connect(t, addr))
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPomOf_AnotherVersion_IsTheOnlyDifference(t *testing.T) {
	t.Parallel()
	if got := pomOf(""); got != kafkaPom {
		t.Errorf("no version: got %s", got)
	}
	const own, other = "<kafka.version>4.1.0</kafka.version>", "<kafka.version>3.9.1</kafka.version>"
	if got := pomOf("3.9.1"); got != strings.Replace(kafkaPom, own, other, 1) || got == kafkaPom {
		t.Errorf("3.9.1: got %s", got)
	}
}

func TestKafka_KilledAndStopped_KeepsRecordsPortAndSequences(t *testing.T) {
	t.Parallel()
	if lacksKafka(t) {
		return
	}
	dir := t.TempDir()
	k, err := StartKafka(testContext(t), KafkaConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Kill)
	makeOrders(t, k.Addr())
	p := newProducer(t, k.Addr())
	p.want(0, 0, 0)
	p.want(0, 1, 1)
	addr := k.Addr()
	k.Kill()
	if err := k.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if k.Addr() != addr {
		t.Errorf("address changed from %s to %s", addr, k.Addr())
	}
	p = p.at(addr)
	p.want(0, 1, 1)
	p.wantGap(0, 3)
	if err := k.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	again, err := StartKafka(testContext(t), KafkaConfig{Dir: dir, Port: k.port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Kill)
	p.at(again.Addr()).want(0, 2, 2)
}

func TestKafka_StarterKilled_ServerIsGone(t *testing.T) {
	t.Parallel()
	if lacksKafka(t) {
		return
	}
	s := startRole(t, "kafka", t.TempDir(), nil)
	words := s.ready(t)
	pid := number(t, words[0])
	s.kill9()
	if runtime.GOOS == "linux" {
		if err := waitGone(testContext(t), pid); err != nil {
			t.Fatalf("server %d outlives its starter: %v", pid, err)
		}
	}
	w, err := takeWorkDir(testContext(t), nil, words[2], "kafka", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.lock.Unlock()
	if alive(pid) {
		t.Errorf("server %d outlives the next start", pid)
	}
}

func TestKafka_Started_HasItsClassesFromTheKeptFile(t *testing.T) {
	t.Parallel()
	if lacksKafka(t) {
		return
	}
	k, err := StartKafka(testContext(t), KafkaConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Kill)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", k.process().pid()))
	if errors.Is(err, fs.ErrNotExist) {
		return // no Linux
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(maps), k.classes) { // Java says nothing of a file that it passes over
		t.Errorf("the server does not use %s", k.classes)
	}
}
