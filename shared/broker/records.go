package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/compress"
	"pavane/shared/event"
)

// Record is a record as it lies in the log. Key, Value and the header values
// share the memory of the whole answer they came in: copy what must outlive
// the handling of a fetch.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time // as the producer set it, or the broker's when the topic says so; UTC, milliseconds
	Key       []byte    // nil: null
	Value     []byte    // nil: null
	Headers   []event.Header
}

// Attribute bits of a record batch.
const (
	attrCompression   = 0x07
	attrLogAppendTime = 0x08
	attrControl       = 0x20
)

const (
	minRecord     = 7 // bytes of a record without key, value and headers
	minHeader     = 2 // bytes of a header without key and value
	headersAtOnce = 256

	// A batch of a million records or headers fits into a message when it is
	// compressed, and takes a hundred times its bytes when it is taken apart.
	maxRecords = 1 << 20
	maxHeaders = 1 << 20
)

// batchReader takes fetched record batches apart.
type batchReader struct {
	names       map[string]string // header keys seen, so that each is allocated once
	headerSpace []event.Header
	headersLeft int // that the batch at hand may have
	records     []Record
}

// read appends the records from the given offset on and returns the offset
// after the last complete batch. A batch may begin before the offset, and the
// last one may be cut off by the size limit of the fetch.
func (r *batchReader) read(at Position, data []byte) (next int64, err error) {
	next = at.Offset
	for {
		b, rest, err := cutBatch(data)
		if err != nil {
			return next, fmt.Errorf("at %s: %w", at, err)
		}
		if b == nil {
			return next, nil
		}
		end, err := r.batch(at, b)
		if err != nil {
			return next, fmt.Errorf("batch at %s: %w", Position{at.Topic, at.Partition, next}, err)
		}
		next, data = max(next, end), rest
	}
}

// batch reads one batch and returns the offset after it. After an error it has
// appended nothing.
func (r *batchReader) batch(at Position, b []byte) (end int64, err error) {
	if magic := b[atMagic-prefix]; magic != 2 {
		return 0, fmt.Errorf("message format %d: want 2", magic)
	}
	if sum := crc32.Checksum(b[atAttributes-prefix:], crc32.MakeTable(crc32.Castagnoli)); sum != binary.BigEndian.Uint32(b[atCRC-prefix:]) {
		return 0, fmt.Errorf("checksum %08x does not fit the batch", sum)
	}
	base := int64(binary.BigEndian.Uint64(b))
	end = base + int64(int32(binary.BigEndian.Uint32(b[atLastDelta-prefix:]))) + 1
	attributes := binary.BigEndian.Uint16(b[atAttributes-prefix:])
	if attributes&attrControl != 0 || end <= at.Offset {
		return end, nil // end of a transaction, or before the offset asked for
	}
	body := b[atRecords-prefix:]
	if codec := attributes & attrCompression; codec != 0 {
		if body, err = unpack(codec, body); err != nil {
			return 0, err
		}
	}
	times := batchTimes{first: int64(binary.BigEndian.Uint64(b[atFirstTime-prefix:]))}
	if attributes&attrLogAppendTime != 0 {
		times = batchTimes{first: int64(binary.BigEndian.Uint64(b[atMaxTime-prefix:])), fixed: true}
	}
	mark := len(r.records)
	d := decoder{b: body}
	count := int(int32(binary.BigEndian.Uint32(b[atCount-prefix:])))
	if count > maxRecords {
		return 0, fmt.Errorf("it holds %d records, and at most %d are taken", count, maxRecords)
	}
	r.headersLeft = maxHeaders
	r.records = slices.Grow(r.records, min(max(count, 0), len(body)/minRecord))
	for range count {
		if r.record(at, &d, base, times); d.err != nil {
			r.records = r.records[:mark]
			return 0, d.err
		}
	}
	return end, nil
}

type batchTimes struct {
	first int64
	fixed bool // the broker's time holds for all records
}

func (r *batchReader) record(at Position, d *decoder, base int64, times batchTimes) {
	rd := decoder{b: d.counted(), err: d.err}
	_ = rd.int8() // attributes
	timeDelta, offset := rd.varint(), base+rd.varint()
	if offset < at.Offset && rd.err == nil {
		return
	}
	rec := Record{Topic: at.Topic, Partition: at.Partition, Offset: offset, Key: rd.counted(), Value: rd.counted()}
	if times.fixed {
		timeDelta = 0
	}
	rec.Time = time.UnixMilli(times.first + timeDelta).UTC()
	rec.Headers = r.headers(&rd)
	if rd.err != nil {
		d.err = rd.err
		return
	}
	r.records = append(r.records, rec)
}

func (r *batchReader) headers(d *decoder) []event.Header {
	n := d.varint()
	if n < 0 || n > int64(len(d.b)/minHeader) {
		d.err = errShort
		return nil
	}
	if n == 0 {
		return nil
	}
	if r.headersLeft -= int(n); r.headersLeft < 0 {
		d.err = fmt.Errorf("it holds more than %d headers", maxHeaders)
		return nil
	}
	// One array serves many records; each gets a part that it cannot outgrow.
	if int(n) > cap(r.headerSpace)-len(r.headerSpace) {
		r.headerSpace = make([]event.Header, 0, max(int(n), headersAtOnce))
	}
	used := len(r.headerSpace)
	r.headerSpace = r.headerSpace[:used+int(n)]
	headers := r.headerSpace[used : used+int(n) : used+int(n)]
	for i := range headers {
		headers[i] = event.Header{Key: r.name(d.counted()), Value: d.counted()}
	}
	return headers
}

func (r *batchReader) name(b []byte) string {
	if s, ok := r.names[string(b)]; ok {
		return s
	}
	if r.names == nil {
		r.names = map[string]string{}
	}
	s := string(b)
	r.names[s] = s
	return s
}

// maxUnpacked bounds what a batch may hold when it is decompressed. A megabyte of
// zeros, packed, can be a thousand times that; it must stop its partition at
// most, and not the process.
const maxUnpacked = 128 << 20

// unpack decompresses records of producers other than this package.
func unpack(codec uint16, body []byte) ([]byte, error) {
	c := compress.Compression(codec)
	if c > compress.Zstd {
		return nil, fmt.Errorf("compression codec %d is not known", codec)
	}
	rd := c.Codec().NewReader(bytes.NewReader(body))
	defer func() { _ = rd.Close() }()
	out, err := io.ReadAll(io.LimitReader(rd, maxUnpacked+1))
	if err == nil && len(out) > maxUnpacked {
		err = fmt.Errorf("it holds more than %d bytes", maxUnpacked)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", c, err)
	}
	return out, nil
}
