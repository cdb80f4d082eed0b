package broker

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"pavane/shared/event"
	"pgregory.net/rapid"
)

// Vectors of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
func TestPartition_HashIsTheJavaClients(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q): got %d; want %d", key, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		key, n := rapid.SliceOf(rapid.Byte()).Draw(t, "key"), rapid.IntRange(1, 100).Draw(t, "n")
		numbers := make([]int, n)
		for i := range numbers {
			numbers[i] = i
		}
		want := kafka.Murmur2Balancer{Consistent: true}.Balance(kafka.Message{Key: key}, numbers...)
		if got := Partition(key, n); int(got) != want {
			t.Fatalf("partition of %x among %d: got %d; want %d", key, n, got, want)
		}
	})
}

func TestNextSequence_AfterTheGreatest_IsZero(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first int32
		n     int
		want  int32
	}{{0, 5, 5}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 2, 0}, {math.MaxInt32, 3, 2}, {7, 0, 7}} {
		if got := NextSequence(c.first, c.n); got != c.want {
			t.Errorf("%d records from %d: got %d; want %d", c.n, c.first, got, c.want)
		}
	}
}

func TestBatch_Golden(t *testing.T) {
	t.Parallel()
	var b Batch
	b.Reset("orders.events.v1", 3)
	b.Add(1_700_000_000_000, []byte("k"), []byte("v"), event.AppendHeaders(nil, []event.Header{{Key: "h", Value: []byte("x")}}))
	b.Add(1_700_000_000_100, nil, []byte{}, nil)
	b.Seal(Producer{ID: 4711, Epoch: 2}, 7)
	// Never changed: a batch sent again after an upgrade must be the same bytes.
	const want = "00000052" + "0000000000000000" + "00000046" + "ffffffff" + "02" + "738b3de0" + // size; offset, length, epoch, magic, crc
		"0000" + "00000001" + "0000018bcfe56800" + "0000018bcfe56864" + // attributes, last delta, first and greatest time
		"0000000000001267" + "0002" + "00000007" + "00000002" + // producer, epoch, sequence, count
		"18000000026b0276" + "0202680278" + "0e00c80102010000"
	if got := hex.EncodeToString(b.buf); got != want {
		t.Errorf("batch:\n got %s\nwant %s", got, want)
	}
}

type sample struct {
	at         int64
	key, value []byte
	headers    []event.Header
}

func samples() *rapid.Generator[[]sample] {
	maybe := func(t *rapid.T, name string) []byte {
		if rapid.Bool().Draw(t, name+" null") {
			return nil
		}
		return rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, name)
	}
	one := rapid.Custom(func(t *rapid.T) sample {
		s := sample{at: rapid.Int64Range(1, 1<<42).Draw(t, "at"), key: maybe(t, "key"), value: maybe(t, "value")}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			value := append([]byte{}, maybe(t, "header")...)
			s.headers = append(s.headers, event.Header{Key: rapid.StringN(0, 10, 40).Draw(t, "name"), Value: value})
		}
		return s
	})
	return rapid.SliceOfN(one, 1, 70)
}

func build(records []sample, p Producer, sequence int32) *Batch {
	var b Batch
	b.Reset("t", 0)
	for _, s := range records {
		var headers []byte
		if s.headers != nil {
			headers = event.AppendHeaders(nil, s.headers)
		}
		b.Add(s.at, s.key, s.value, headers)
	}
	b.Seal(p, sequence)
	return &b
}

// byKafkaGo encodes with kafka-go and patches what it cannot set.
func byKafkaGo(t *rapid.T, records []sample, attributes protocol.Attributes, p Producer, sequence int32) []byte {
	list := make([]protocol.Record, len(records))
	for i, s := range records {
		list[i] = protocol.Record{Time: time.UnixMilli(s.at), Key: protocol.NewBytes(s.key), Value: protocol.NewBytes(s.value)}
		for _, h := range s.headers {
			list[i].Headers = append(list[i].Headers, protocol.Header{Key: h.Key, Value: h.Value})
		}
	}
	var out bytes.Buffer
	set := protocol.RecordSet{Version: 2, Attributes: attributes, Records: protocol.NewRecordReader(list...)}
	if _, err := set.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	b := out.Bytes()
	binary.BigEndian.PutUint64(b[atProducer:], uint64(p.ID))
	binary.BigEndian.PutUint16(b[atEpoch:], uint16(p.Epoch))
	binary.BigEndian.PutUint32(b[atSequence:], uint32(sequence))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestBatch_AnyRecords_SameBytesAsKafkaGo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		records, p := samples().Draw(t, "records"), Producer{ID: rapid.Int64Min(0).Draw(t, "id"), Epoch: rapid.Int16Min(0).Draw(t, "epoch")}
		sequence := rapid.Int32Min(0).Draw(t, "sequence")
		got, want := build(records, p, sequence), byKafkaGo(t, records, 0, p, sequence)
		if !bytes.Equal(got.buf, want) {
			t.Fatalf("\n got %x\nwant %x", got.buf, want)
		}
		if got.Size() != len(want)-4 || got.Len() != len(records) {
			t.Fatalf("size %d, records %d; want %d, %d", got.Size(), got.Len(), len(want)-4, len(records))
		}
	})
}

func TestBatch_AnyRecords_KafkaGoReadsThemEqual(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		records := samples().Draw(t, "records")
		var set protocol.RecordSet
		if _, err := set.ReadFrom(bytes.NewReader(build(records, Producer{ID: 9, Epoch: 1}, 5).buf)); err != nil {
			t.Fatal(err)
		}
		for i, want := range records {
			r, err := set.Records.ReadRecord()
			if err != nil {
				t.Fatal(err)
			}
			key, _ := protocol.ReadAll(r.Key)
			value, _ := protocol.ReadAll(r.Value)
			if r.Time.UnixMilli() != want.at || r.Offset != int64(i) || len(r.Headers) != len(want.headers) ||
				!bytes.Equal(key, want.key) || !bytes.Equal(value, want.value) || (r.Key == nil) != (want.key == nil) {
				t.Fatalf("record %d: got %v %x %x %v; want %+v", i, r.Time, key, value, r.Headers, want)
			}
		}
		if _, err := set.Records.ReadRecord(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last record: got %v; want EOF", err)
		}
	})
}

func TestBatch_ResetAndSealedAgain_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	records := []sample{{at: 5, key: []byte("k"), value: []byte("v")}}
	b := build([]sample{{at: 1, value: make([]byte, 500)}, {at: 9}}, Producer{ID: 1, Epoch: 1}, 8)
	b.Reset("t", 0)
	b.Add(5, records[0].key, records[0].value, nil)
	b.Seal(Producer{ID: 3}, 1)
	b.Seal(Producer{ID: 7, Epoch: 1}, 2)
	if want := build(records, Producer{ID: 7, Epoch: 1}, 2); !bytes.Equal(b.buf, want.buf) {
		t.Errorf("\n got %x\nwant %x", b.buf, want.buf)
	}
}

func TestReader_AnyCodecAndOffset_ReadsTheRest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		records := samples().Draw(t, "records")
		codec := rapid.SampledFrom([]protocol.Attributes{0, protocol.Gzip, protocol.Snappy, protocol.Lz4, protocol.Zstd}).Draw(t, "codec")
		from := rapid.IntRange(0, len(records)-1).Draw(t, "from")
		data := byKafkaGo(t, records, codec, Producer{ID: 1}, 0)[prefix:]
		binary.BigEndian.PutUint64(data, 1000)
		cut := append(bytes.Clone(data), data[:rapid.IntRange(0, len(data)-1).Draw(t, "cut")]...)
		var rd batchReader
		next, err := rd.read(Position{Topic: "t", Partition: 1, Offset: 1000 + int64(from)}, cut)
		if err != nil || next != 1000+int64(len(records)) || len(rd.records) != len(records)-from {
			t.Fatalf("next %d, %d records, error %v", next, len(rd.records), err)
		}
		for i, r := range rd.records {
			want := records[from+i]
			if r.Offset != 1000+int64(from+i) || r.Time.UnixMilli() != want.at || !bytes.Equal(r.Key, want.key) || (r.Value == nil) != (want.value == nil) ||
				!bytes.Equal(r.Value, want.value) || !bytes.Equal(event.AppendHeaders(nil, r.Headers), event.AppendHeaders(nil, want.headers)) {
				t.Fatalf("record %d: got %+v; want %+v", i, r, want)
			}
		}
	})
}

func TestReader_AnyDamage_IsNeverTakenForRecords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		records := samples().Draw(t, "records")
		data := bytes.Clone(build(records, Producer{ID: 1}, 0).buf[prefix:])
		at := rapid.IntRange(8, len(data)-1).Draw(t, "at")
		if at >= atLeaderEpoch-prefix && at < atMagic-prefix {
			t.Skip("the leader epoch is the broker's and not under the checksum")
		}
		data[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		var rd batchReader
		if next, err := rd.read(Position{}, data); next != 0 || len(rd.records) != 0 {
			t.Fatalf("byte %d damaged: next %d, %d records, error %v", at, next, len(rd.records), err)
		}
	})
}

func TestReader_ControlBatch_IsPassedOver(t *testing.T) {
	t.Parallel()
	marker := build([]sample{{at: 1, key: []byte{0, 0, 0, 1}, value: []byte("x")}}, Producer{ID: 1}, 0).buf[prefix:]
	binary.BigEndian.PutUint16(marker[atAttributes-prefix:], attrControl)
	binary.BigEndian.PutUint32(marker[atCRC-prefix:], crc32.Checksum(marker[atAttributes-prefix:], crc32.MakeTable(crc32.Castagnoli)))
	var rd batchReader
	next, err := rd.read(Position{}, marker)
	if next != 1 || err != nil || len(rd.records) != 0 {
		t.Errorf("got next %d, %d records, error %v; want 1, none, nil", next, len(rd.records), err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(build([]sample{{at: 1, key: []byte("k"), headers: []event.Header{{Key: "a"}}}}, Producer{}, 0).buf[prefix:])
	f.Fuzz(func(_ *testing.T, data []byte) {
		// Whatever is inside, the checksum shall not be what stops it.
		if len(data) > atRecords {
			binary.BigEndian.PutUint32(data[atLength-prefix:], uint32(len(data)-12))
			data[atMagic-prefix] = 2
			binary.BigEndian.PutUint32(data[atCRC-prefix:], crc32.Checksum(data[atAttributes-prefix:], crc32.MakeTable(crc32.Castagnoli)))
		}
		_, _ = new(batchReader).read(Position{}, data)
		_, _ = readFetched(data, fetchPlan{})
	})
}

func TestClass_EachCode_HasItsMeaning(t *testing.T) {
	t.Parallel()
	for want, codes := range map[error][]int16{
		ErrUnavailable: {-1, 2, 3, 5, 6, 7, 9, 14, 15, 16, 19, 20, 32, 56, 74, 999}, ErrSequenceGap: {45, 59}, ErrFenced: {47, 90},
		ErrRefused: {10, 18, 44, 87}, ErrForbidden: {29, 30, 31, 53, 58}, ErrOffsetRange: {1},
	} {
		for _, code := range codes {
			if err := answered("x", code, ""); !errors.Is(err, want) {
				t.Errorf("code %d: got %v; want %v", code, err, want)
			}
		}
	}
	if err := unavailable("x", kafka.SASLAuthenticationFailed); !errors.Is(err, ErrForbidden) {
		t.Errorf("refused credentials: got %v", err)
	}
}

func BenchmarkBatch_AddAndSeal(b *testing.B) {
	headers, key, value := sampleRecord()
	var batch Batch
	batch.Reset("t", 0)
	b.ReportAllocs()
	b.SetBytes(int64(len(headers) + len(key) + len(value)))
	for b.Loop() {
		batch.Add(1_700_000_000_000, key, value, headers)
		if batch.Len() == 1000 {
			batch.Seal(Producer{ID: 1}, 0)
			batch.Reset("t", 0)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	headers, key, value := sampleRecord()
	var batch Batch
	batch.Reset("t", 0)
	for range 1000 {
		batch.Add(1_700_000_000_000, key, value, headers)
	}
	batch.Seal(Producer{ID: 1}, 0)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%1000 != 1 {
			continue
		}
		var rd batchReader
		if _, err := rd.read(Position{}, batch.buf[prefix:]); err != nil || len(rd.records) != 1000 {
			b.Fatal(err)
		}
	}
}

// sampleRecord is a record of the demo's size.
func sampleRecord() (headers, key, value []byte) {
	e := event.Envelope{
		ID: "01932d3c-8a5e-7cc3-9f0a-0123456789ab", Source: "/order-svc", Kind: "order.placed.v1", Key: "01932d3c-8a5e-7cc3-9f0a-0123456789ab", Sequence: 1,
		CorrelationID: "01932d3c-8a5e-7cc3-9f0a-0123456789ab", CausationID: "01932d3c-8a5e-7cc3-9f0a-0123456789ab", Data: make([]byte, 300),
	}
	return event.AppendHeaders(nil, e.Headers()), []byte(e.Key), e.Data
}
