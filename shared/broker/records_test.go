package broker

import (
	"bytes"
	"compress/gzip"
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
