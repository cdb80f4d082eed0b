package devstack

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// producer sends batches with the sequence numbers that a test wants.
type producer struct {
	t      *testing.T
	broker *kgo.Broker
	pid    int64
	epoch  int16
}

// connect opens a client that ends with the test.
func connect(t *testing.T, addr string) *kgo.Client {
	t.Helper()
	// Produce by topic name, as kafka-go does; later versions want topic ids.
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// newProducer takes a producer id.
func newProducer(t *testing.T, addr string) *producer {
	t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp, err := req.RequestWith(testContext(t), connect(t, addr))
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &producer{t: t, pid: resp.ProducerID, epoch: resp.ProducerEpoch}
	return p.at(addr)
}

// at continues at another address, as a producer does after the broker came back.
func (p *producer) at(addr string) *producer {
	return &producer{t: p.t, broker: connect(p.t, addr).SeedBrokers()[0], pid: p.pid, epoch: p.epoch}
}

// send sends one batch with one record and returns its offset or the broker's error.
func (p *producer) send(partition, sequence int32) (int64, error) {
	p.t.Helper()
	body := kmsg.Record{Value: []byte("v")}
	body.Length = int32(len(body.AppendTo(nil)) - 1) // the length itself takes one byte
	// Kafka forgets a producer whose last batch says that it is older than producer.id.expiration.ms (a day).
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		FirstTimestamp: now, MaxTimestamp: now,
		PartitionLeaderEpoch: -1, Magic: 2, NumRecords: 1, Records: body.AppendTo(nil),
		ProducerID: p.pid, ProducerEpoch: p.epoch, FirstSequence: sequence,
	}
	batch.Length = int32(len(batch.AppendTo(nil)) - 12)
	raw := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[batchCRCAt:], crc32.Checksum(raw[batchSummedAt:], crc32.MakeTable(crc32.Castagnoli)))
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "orders"
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = partition, raw
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	kresp, err := p.broker.Request(testContext(p.t), req)
	if err != nil {
		p.t.Fatal(err)
	}
	got := kresp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return got.BaseOffset, kerr.ErrorForCode(got.ErrorCode)
}

// want sends and checks the offset.
func (p *producer) want(partition, sequence int32, offset int64) {
	p.t.Helper()
	if got, err := p.send(partition, sequence); err != nil || got != offset {
		p.t.Errorf("batch %d of partition %d: offset %d (%v), want %d", sequence, partition, got, err, offset)
	}
}

// wantGap sends and checks that the broker misses what comes before.
func (p *producer) wantGap(partition, sequence int32) {
	p.t.Helper()
	if got, err := p.send(partition, sequence); !errors.Is(err, kerr.OutOfOrderSequenceNumber) {
		p.t.Errorf("batch %d of partition %d: offset %d (%v), want a gap", sequence, partition, got, err)
	}
}

func startTestBroker(t *testing.T, cfg BrokerConfig) *Broker {
	t.Helper()
	cfg.Topics = map[string]int{"orders": 2}
	b, err := StartBroker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestBroker_BatchSentAgain_IsAnsweredWithItsOffset(t *testing.T) {
	t.Parallel()
	p := newProducer(t, startTestBroker(t, BrokerConfig{}).Addr())
	p.want(0, 0, 0)
	p.want(0, 1, 1)
	p.want(0, 1, 1)
	p.wantGap(0, 3)
}

func TestBroker_Closed_RecognisesBatchesAfterwards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startTestBroker(t, BrokerConfig{Dir: dir})
	p := newProducer(t, b.Addr())
	p.want(0, 0, 0)
	p.want(1, 0, 0)
	b.Close()
	p = p.at(startTestBroker(t, BrokerConfig{Dir: dir}).Addr())
	p.want(0, 0, 0)
	p.want(0, 1, 1)
	p.wantGap(1, 2)
}

// TestBroker_Killed_RecognisesBatchesAfterwards kills twice: after a clean close, whose numbers are then old, and again
// after a recovery.
func TestBroker_Killed_RecognisesBatchesAfterwards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startTestBroker(t, BrokerConfig{Dir: dir})
	p, other := newProducer(t, b.Addr()), newProducer(t, b.Addr())
	p.want(0, 0, 0)
	other.want(0, 0, 1)
	b.Close()
	for round := range int32(2) {
		s := startRole(t, "broker", dir, nil)
		addr := s.ready(t)[1]
		p = p.at(addr)
		before := int64(1 + 7*round)
		for n := range int32(7) {
			p.want(0, 1+7*round+n, before+1+int64(n))
		}
		s.kill9()
	}
	last := startTestBroker(t, BrokerConfig{Dir: dir}).Addr()
	p, other = p.at(last), other.at(last)
	p.want(0, 14, 15) // the last one
	p.want(0, 11, 12) // one before
	p.wantGap(0, 16)
	p.want(0, 15, 16)
	other.want(0, 0, 1)
}

func TestBroker_DirectoryInUse_IsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startTestBroker(t, BrokerConfig{Dir: dir})
	if _, err := StartBroker(BrokerConfig{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
}

func TestBroker_KeptDirectory_GetsNewTopics(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := StartBroker(BrokerConfig{Dir: dir, Topics: map[string]int{"old": 1}})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	p := newProducer(t, startTestBroker(t, BrokerConfig{Dir: dir}).Addr())
	p.want(1, 0, 0)
}

func TestBroker_TopicUnknown_IsNotMadeOnDemand(t *testing.T) {
	t.Parallel()
	b, err := StartBroker(BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := newProducer(t, b.Addr()).send(0, 0); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("got %v", err)
	}
}

// A batch that the broker cuts off as torn must not count as known: its sender would be told that it is safe.
func TestRestoreSequences_TornOrDamagedBatch_IsNotKnown(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b []byte) []byte{
		"torn":    func(b []byte) []byte { return b[:len(b)-1] },
		"damaged": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := startRole(t, "broker", dir, nil)
			p := newProducer(t, s.ready(t)[1])
			p.want(0, 0, 0)
			p.want(0, 1, 1)
			s.kill9()
			segment := filepath.Join(dir, "partitions", "orders-0", "0.dat")
			b, err := os.ReadFile(segment)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(segment, spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
			p = p.at(startTestBroker(t, BrokerConfig{Dir: dir}).Addr())
			p.wantGap(0, 2)
			p.want(0, 0, 0)
			p.want(0, 1, 1) // written again
			p.want(0, 2, 2)
		})
	}
}
