package outage_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pavane/internal/devstack"
)

// Where a record batch of format 2 has its length and its number of records.
const (
	lengthAt = 8
	countAt  = 57
)

// cut is what is taken from the end of one partition's log while the broker is down.
type cut struct {
	batches int  // whole batches from the end
	torn    bool // and a half of the one before them
	all     bool // the whole log
}

// piece is a batch in a file.
type piece struct {
	file       string
	from, size int64
	records    int
}

// apply cuts the log of a partition as a machine does that had not written all of it to disk: the end of the records is
// missing, and so are the snapshots of what producers had sent. It returns the number of acknowledged records that the
// broker no longer has.
func (c cut) apply(t *testing.T, k *devstack.Kafka, partition int) (lost int) {
	t.Helper()
	dir := filepath.Join(k.Dir(), "data", fmt.Sprintf("%s-%d", topic, partition))
	batches := batchesOf(t, dir)
	keep := max(len(batches)-c.batches, 0)
	if c.all {
		keep = 0
	}
	torn := int64(0)
	if c.torn && keep > 0 {
		keep--
		torn = batches[keep].size / 2
	}
	for _, b := range batches[keep:] {
		lost += b.records
	}
	truncate(t, dir, batches, keep, torn)
	forget(t, dir, "*.snapshot", "*.index", "*.timeindex", "*.txnindex")
	// Without it the broker reads every log from its first record, as it must after a crash.
	forget(t, filepath.Dir(dir), "recovery-point-offset-checkpoint")
	return lost
}

// truncate leaves the first batches, and some bytes of the next.
func truncate(t *testing.T, dir string, batches []piece, keep int, torn int64) {
	t.Helper()
	if keep == len(batches) {
		return
	}
	first := batches[keep]
	must(t, os.Truncate(filepath.Join(dir, first.file), first.from+torn))
	for _, file := range segments(t, dir) {
		if file > first.file {
			must(t, os.Remove(filepath.Join(dir, file)))
		}
	}
}

// segments are the files with the records, in order: their names are the offsets they begin with.
func segments(t *testing.T, dir string) (files []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.log"))
	must(t, err)
	for _, f := range found {
		files = append(files, filepath.Base(f))
	}
	slices.Sort(files)
	if len(files) == 0 {
		t.Fatalf("no log in %s", dir)
	}
	return files
}

func batchesOf(t *testing.T, dir string) (batches []piece) {
	t.Helper()
	for _, file := range segments(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		for from := int64(0); from+countAt+4 <= int64(len(b)); {
			size := int64(binary.BigEndian.Uint32(b[from+lengthAt:])) + lengthAt + 4
			if size == lengthAt+4 || from+size > int64(len(b)) {
				break // what a preallocated file has behind its last batch
			}
			batches = append(batches, piece{file, from, size, int(binary.BigEndian.Uint32(b[from+countAt:]))})
			from += size
		}
	}
	return batches
}

func forget(t *testing.T, dir string, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		must(t, err)
		for _, f := range files {
			must(t, os.Remove(f))
		}
	}
}
