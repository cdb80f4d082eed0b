package broker

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/bits"
)

// Producer is an identity under which the broker remembers sequence numbers.
type Producer struct {
	ID    int64 // from 0 on
	Epoch int16 // a batch of an older epoch is refused with ErrFenced
}

// Batch is one record batch of format 2 for one partition, built in one buffer
// that is reused by Reset. The zero value is ready for Reset. A batch that is
// built again from the same records and sealed alike is the same bytes; the
// broker recognises it by producer and sequence (KIP-98).
type Batch struct {
	topic     string
	partition int32
	producer  Producer
	sealed    bool
	count     int
	first     int64 // time of the first record, ms
	latest    int64 // greatest time, ms
	after     int64 // the log must end here or further on
	buf       []byte
}

// Positions in a record batch (kafka.apache.org/documentation, message
// format), after the four bytes of its size in a request.
const (
	prefix        = 4
	atLength      = prefix + 8
	atLeaderEpoch = prefix + 12
	atMagic       = prefix + 16
	atCRC         = prefix + 17
	atAttributes  = prefix + 21
	atLastDelta   = prefix + 23
	atFirstTime   = prefix + 27
	atMaxTime     = prefix + 35
	atProducer    = prefix + 43
	atEpoch       = prefix + 51
	atSequence    = prefix + 53
	atCount       = prefix + 57
	atRecords     = prefix + 61
)

// Reset empties the batch and addresses it.
func (b *Batch) Reset(topic string, partition int32) {
	b.topic, b.partition = topic, partition
	b.sealed, b.count, b.after = false, 0, 0
	if cap(b.buf) < atRecords {
		b.buf = make([]byte, 0, 4<<10)
	}
	b.buf = b.buf[:atRecords]
	clear(b.buf)
}

// Add appends a record. The time is in milliseconds since 1970. A nil key or
// value is null. The headers are the header section of a v2 record as
// event.AppendHeaders makes it; empty means no headers. Everything is copied.
func (b *Batch) Add(timeMillis int64, key, value, headers []byte) {
	if b.count == 0 {
		b.first, b.latest = timeMillis, timeMillis
	}
	b.latest = max(b.latest, timeMillis)
	timeDelta, offsetDelta := timeMillis-b.first, int64(b.count)
	size := 1 + varintSize(timeDelta) + varintSize(offsetDelta) + countedSize(key) + countedSize(value) + max(len(headers), 1)
	buf := binary.AppendVarint(b.buf, int64(size))
	buf = append(buf, 0) // attributes
	buf = binary.AppendVarint(buf, timeDelta)
	buf = binary.AppendVarint(buf, offsetDelta)
	buf = appendCounted(buf, key)
	buf = appendCounted(buf, value)
	if len(headers) == 0 {
		buf = append(buf, 0)
	}
	b.buf = append(buf, headers...)
	b.count++
	b.sealed = false
}

// Len returns the number of records.
func (b *Batch) Len() int { return b.count }

// Size returns the bytes of the batch as the broker measures it against
// max.message.bytes.
func (b *Batch) Size() int { return len(b.buf) - prefix }

// Topic returns where the batch goes.
func (b *Batch) Topic() (topic string, partition int32) { return b.topic, b.partition }

// place names the batch's partition.
func (b *Batch) place() Position { return Position{Topic: b.topic, Partition: b.partition} }

// After says that everything below the offset end was in the log before this
// batch: Produce answers ErrSequenceGap when the log ends before it. Reset sets
// it to 0, which any log reaches.
//
// The sequence numbers alone do not tell. A broker that lost all it had of a
// producer in a partition takes any number from it (KIP-360).
func (b *Batch) After(end int64) { b.after = end }

// Seal writes the producer and the sequence of the first record into the batch
// and makes it ready for Produce. Sealing again, for another producer, is
// allowed.
func (b *Batch) Seal(p Producer, firstSequence int32) {
	buf := b.buf
	binary.BigEndian.PutUint32(buf, uint32(len(buf)-prefix))
	binary.BigEndian.PutUint32(buf[atLength:], uint32(len(buf)-prefix-12))
	binary.BigEndian.PutUint32(buf[atLeaderEpoch:], math.MaxUint32)
	buf[atMagic] = 2
	binary.BigEndian.PutUint32(buf[atLastDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(buf[atFirstTime:], uint64(b.first))
	binary.BigEndian.PutUint64(buf[atMaxTime:], uint64(b.latest))
	binary.BigEndian.PutUint64(buf[atProducer:], uint64(p.ID))
	binary.BigEndian.PutUint16(buf[atEpoch:], uint16(p.Epoch))
	binary.BigEndian.PutUint32(buf[atSequence:], uint32(firstSequence))
	binary.BigEndian.PutUint32(buf[atCount:], uint32(b.count))
	binary.BigEndian.PutUint32(buf[atCRC:], crc32.Checksum(buf[atAttributes:], crc32.MakeTable(crc32.Castagnoli)))
	b.producer, b.sealed = p, true
}

// NextSequence returns the sequence after n records that begin with first. It
// goes from 2^31-1 to 0 (KIP-98).
func NextSequence(first int32, n int) int32 {
	return int32((int64(first) + int64(n)) & math.MaxInt32)
}

// Partition returns the partition of a key among n, as the Java client's
// default partitioner chooses it (murmur2). n is at least 1.
func Partition(key []byte, n int) int32 {
	return int32(murmur2(key)&math.MaxInt32) % int32(n)
}

// murmur2 is org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(data []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * m
		h = h*m ^ (k^k>>24)*m
	}
	if len(data) > 0 {
		for i := range data {
			h ^= uint32(data[i]) << (8 * i)
		}
		h *= m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

func varintSize(n int64) int {
	zigzag := uint64(n<<1) ^ uint64(n>>63)
	return (bits.Len64(zigzag|1) + 6) / 7
}

func countedSize(v []byte) int {
	if v == nil {
		return 1
	}
	return varintSize(int64(len(v))) + len(v)
}

func appendCounted(dst, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(v))), v...)
}
