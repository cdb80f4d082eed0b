package broker

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"
)

// zeros is an endless stream of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestUnpack_BatchThatHoldsFarMoreThanItsSize_IsAnErrorAndNotAllMemory(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err == nil {
		_, err = io.CopyN(w, zeros{}, maxUnpacked+1)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(uint16(compress.Gzip), packed.Bytes()); err == nil || !strings.Contains(err.Error(), "holds more than") {
		t.Errorf("%d bytes that hold %d: %v; want an error", packed.Len(), maxUnpacked+1, err)
	}
}

// Both are a few kilobytes when they are compressed. It is alone, since memory is
// counted for all.
func TestBatch_OfFarTooManyParts_IsAnErrorAndNotAllMemory(t *testing.T) {
	var headers, records Batch
	headers.Reset("t", 0)
	headers.Add(0, nil, nil, append(binary.AppendVarint(nil, 8*maxHeaders), make([]byte, 8*maxHeaders*minHeader)...))
	records.Reset("t", 0)
	for range 2 * maxRecords {
		records.Add(0, nil, nil, nil)
	}
	for want, b := range map[string]*Batch{"headers": &headers, "records": &records} {
		b.Seal(Producer{}, 0)
		var err error
		n := allocated(func() { _, err = new(batchReader).batch(Position{Topic: "t"}, b.buf[prefix:]) })
		if err == nil || !strings.Contains(err.Error(), want) || n > readLimit {
			t.Errorf("a batch of %d bytes with too many %s: %v, for %d bytes of memory", b.Size(), want, err, n)
		}
	}
}

// The broker may give all of an answer to the partition that the request names first.
func TestFetch_EachPartitionIsFirstNowAndThen(t *testing.T) {
	t.Parallel()
	for _, topics := range []int{1, 2, 3} {
		var positions []Position
		for p := range int32(6) {
			for topic := range topics {
				positions = append(positions, Position{Topic: string(rune('a' + topic)), Partition: p})
			}
		}
		first := map[Position]bool{}
		for range 1000 { // one of 18 is missing after that many with a chance of 10^-24
			asked := inTurn(positions)
			n := 0
			for _, of := range asked {
				n += len(of)
			}
			if n != len(positions) || len(asked) != topics {
				t.Fatalf("of %d partitions of %d topics %d of %d are asked for", len(positions), topics, n, len(asked))
			}
			first[asked[0][0]] = true
		}
		if len(first) != len(positions) {
			t.Errorf("%d of %d partitions of %d topics are ever first", len(first), len(positions), topics)
		}
	}
}
