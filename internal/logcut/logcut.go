// Package logcut owns the loss of acknowledged records in tests: it takes the end
// off a partition's log in the files of a broker that is down, as a machine does
// that had not written all of it to disk.
package logcut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Where a record batch of format 2 has its length and its number of records.
const (
	lengthAt = 8
	countAt  = 57
)

// Cut is what is taken from the end of one partition's log.
type Cut struct {
	Batches int  // whole batches from the end
	Torn    bool // and a half of the one before them
	All     bool // the whole log
}

// piece is a batch in a file.
type piece struct {
	file       string
	from, size int64
	records    int
}

// Apply cuts the log of a partition in the data directory of an Apache Kafka. The
// end of the records is missing afterwards, and so are the snapshots of what
// producers had sent. The broker must have been killed: one that was shut down
// does not look at its logs again. Lost is the number of records that it no
// longer has.
func (c Cut) Apply(data, topic string, partition int) (lost int, err error) {
	dir := filepath.Join(data, fmt.Sprintf("%s-%d", topic, partition))
	batches, err := batchesOf(dir)
	if err != nil {
		return 0, fmt.Errorf("cut the log: %w", err)
	}
	keep := max(len(batches)-c.Batches, 0)
	if c.All {
		keep = 0
	}
	torn := int64(0)
	if c.Torn && keep > 0 {
		keep--
		torn = batches[keep].size / 2
	}
	for _, b := range batches[keep:] {
		lost += b.records
	}
	err = errors.Join(truncate(dir, batches, keep, torn), forget(dir, "*.snapshot", "*.index", "*.timeindex", "*.txnindex"),
		// Without it the broker reads every log from its first record, as it must after a crash.
		forget(data, "recovery-point-offset-checkpoint"))
	if err != nil {
		return 0, fmt.Errorf("cut the log: %w", err)
	}
	return lost, nil
}

// truncate leaves the first batches, and some bytes of the next.
func truncate(dir string, batches []piece, keep int, torn int64) error {
	if keep == len(batches) {
		return nil
	}
	first := batches[keep]
	if err := os.Truncate(filepath.Join(dir, first.file), first.from+torn); err != nil {
		return err
	}
	files, err := segments(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if file > first.file {
			err = errors.Join(err, os.Remove(filepath.Join(dir, file)))
		}
	}
	return err
}

// segments are the files with the records, in order: their names are the offsets
// they begin with.
func segments(dir string) (files []string, err error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		files = append(files, filepath.Base(f))
	}
	slices.Sort(files)
	if len(files) == 0 {
		return nil, fmt.Errorf("no log in %s", dir)
	}
	return files, nil
}

func batchesOf(dir string) (batches []piece, err error) {
	files, err := segments(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		for from := int64(0); from+countAt+4 <= int64(len(b)); {
			size := int64(binary.BigEndian.Uint32(b[from+lengthAt:])) + lengthAt + 4
			if size == lengthAt+4 || from+size > int64(len(b)) {
				break // what a preallocated file has behind its last batch
			}
			batches = append(batches, piece{file, from, size, int(binary.BigEndian.Uint32(b[from+countAt:]))})
			from += size
		}
	}
	return batches, nil
}

func forget(dir string, patterns ...string) (err error) {
	for _, pattern := range patterns {
		files, globErr := filepath.Glob(filepath.Join(dir, pattern))
		err = errors.Join(err, globErr)
		for _, f := range files {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return err
}
