package broker

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
)

// readLimit is what reading a short answer may allocate at most: little more
// than what came, whatever sizes it claims.
const readLimit = 8 << 20

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzRequest_ReadsAnAnswer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 6, 0, 0, 0, 7, 1, 2})
	f.Add([]byte{0x15, 3, 3, 0, 2, 2, 40, 0, 0, 0, 0}) // the alert of a server that expects TLS
	f.Add([]byte{0x3f, 0xff, 0xff, 0xff, 0, 0, 0, 7})  // claims a gigabyte
	f.Fuzz(func(t *testing.T, data []byte) {
		r := request{correlation: 7}
		var body []byte
		var err error
		n := allocated(func() { body, err = r.read(bytes.NewReader(data)) })
		if n > readLimit+16*uint64(len(data)) {
			t.Fatalf("%d bytes make it allocate %d", len(data), n)
		}
		if err == nil && (len(body) > len(data)-8 || len(body) != int(binary.BigEndian.Uint32(data))-4) {
			t.Fatalf("%d bytes of body from %d", len(body), len(data))
		}
	})
}

// FuzzAnswers reads the bodies of answers. Only what was asked for may come out.
func FuzzAnswers(f *testing.F) {
	asked := Position{Topic: "t", Partition: 3}
	good := appendInt32(appendString(appendInt32(appendInt32(nil, 0), 1), "t"), 1)
	good = appendInt64(appendInt64(append(appendInt32(good, 3), 0, 0), -1), 42)
	f.Add(good)
	produced := appendInt32(appendString(appendInt32(nil, 1), "t"), 1)
	produced = append(appendInt32(produced, 3), 0, 0)
	produced = appendInt64(appendInt64(appendInt64(produced, 42), -1), 0)
	f.Add(append(appendInt32(produced, 0), 0xff, 0xff, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := allocated(func() { readAnswers(t, body, asked) })
		if n > readLimit+256*uint64(len(body)) {
			t.Fatalf("%d bytes make it allocate %d", len(body), n)
		}
	})
}

func readAnswers(t *testing.T, body []byte, asked Position) {
	var told int
	err := readOffsets("offsets", body, []Position{asked}, func(p Position) {
		if p.Topic != asked.Topic || p.Partition != asked.Partition {
			t.Errorf("%s was not asked for", p)
		}
		told++
	})
	if err == nil && told == 0 {
		t.Error("an answer without the offset asked for is taken")
	}
	b := &Batch{topic: asked.Topic, partition: asked.Partition, count: 1}
	results := []Result{{Offset: -7}}
	if err := readProduced(body, []*Batch{b}, []int{0}, results); err == nil && results[0] == (Result{Offset: -7}) {
		t.Error("an answer without the batch counts as an acknowledgement")
	}
	if parts, err := readFetched(body, fetchPlan{}); err == nil {
		size := 0
		for _, p := range parts {
			size += len(p.records)
		}
		if size > len(body) {
			t.Errorf("%d bytes of records in %d", size, len(body))
		}
	}
}
