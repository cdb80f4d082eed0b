package devstack

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The in-process broker writes what it knows of producers' sequence numbers only when it is closed. After a crash it
// would take a batch that is sent again for a new one, or, with the numbers of an earlier close, refuse the next one.
// So this file is removed as soon as the broker has read it, and a start that finds none makes it from the
// batches in the log, as Kafka does.
const sequenceFile = "seq_windows.json"

// Offsets in a record batch of version 2.
const (
	batchLengthAt   = 8
	batchCRCAt      = 17
	batchSummedAt   = 21
	batchAttributes = 21
	batchPidAt      = 43
	batchEpochAt    = 51
	batchSequenceAt = 53
	batchCountAt    = 57
	batchHeader     = 61
	batchIsControl  = 0x20
)

// keptBatches is how many of a producer's last batches the broker recognises, as in Kafka.
const keptBatches = 5

// sequenceWindows is the file's content.
type sequenceWindows struct {
	Version int               `json:"version"`
	Windows []*sequenceWindow `json:"windows"`
}

// sequenceWindow is what the broker knows of one producer in one partition: a ring of the last batches, the place
// of the next one in it, and the next sequence number.
type sequenceWindow struct {
	PID       int64                     `json:"pid"`
	Topic     string                    `json:"topic"`
	Partition int32                     `json:"partition"`
	Entries   [keptBatches]sequenceSpan `json:"entries"`
	Count     uint8                     `json:"count"`
	At        uint8                     `json:"at"`
	Epoch     int16                     `json:"epoch"`
	Seen      bool                      `json:"seen"`
	Next      int32                     `json:"next_seq"`
}

// sequenceSpan is one batch.
type sequenceSpan struct {
	First  int32 `json:"first_seq"`
	Next   int32 `json:"next_seq"`
	Offset int64 `json:"offset"`
}

// add puts a batch in; another epoch begins the numbers anew.
func (w *sequenceWindow) add(epoch int16, span sequenceSpan) {
	if epoch != w.Epoch {
		*w = sequenceWindow{PID: w.PID, Topic: w.Topic, Partition: w.Partition, Epoch: epoch}
	}
	w.Entries[w.At] = span
	w.At = (w.At + 1) % keptBatches
	w.Count = min(w.Count+1, keptBatches)
	w.Seen, w.Next = true, span.Next
}

// restoreSequences makes the file in a broker's directory when a crash left none.
func restoreSequences(dir string) error {
	file := filepath.Join(dir, sequenceFile)
	if _, err := os.Stat(file); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.json")); err != nil {
		return nil // a new directory
	}
	partitions, err := filepath.Glob(filepath.Join(dir, "partitions", "*"))
	if err != nil {
		return err
	}
	content := sequenceWindows{Version: 1}
	for _, p := range partitions {
		windows, err := partitionWindows(p)
		if err != nil {
			return fmt.Errorf("read partition %s: %w", filepath.Base(p), err)
		}
		content.Windows = append(content.Windows, windows...)
	}
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// partitionWindows reads the producers' numbers from the segments of one partition, whose directory is
// named "topic-number".
func partitionWindows(dir string) ([]*sequenceWindow, error) {
	name := filepath.Base(dir)
	dash := strings.LastIndexByte(name, '-')
	topic, err1 := url.PathUnescape(name[:max(dash, 0)])
	number, err2 := strconv.ParseInt(name[dash+1:], 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	segments, err := filepath.Glob(filepath.Join(dir, "*.dat"))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(segments, func(a, b string) int { return int(min(1, max(-1, baseOffset(a)-baseOffset(b)))) })
	byProducer := map[int64]*sequenceWindow{}
	var windows []*sequenceWindow
	for _, file := range segments {
		segment, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		eachBatch(segment, func(batch []byte) {
			pid, epoch, span := producerOf(batch)
			if pid < 0 {
				return
			}
			w := byProducer[pid]
			if w == nil {
				w = &sequenceWindow{PID: pid, Topic: topic, Partition: int32(number), Epoch: epoch}
				byProducer[pid] = w
				windows = append(windows, w)
			}
			w.add(epoch, span)
		})
	}
	return windows, nil
}

// baseOffset is the number in a segment's file name.
func baseOffset(file string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(filepath.Base(file), ".dat"), 10, 64)
	return n
}

// eachBatch calls f with every batch up to the first one that is torn or damaged: there the broker cuts the segment.
// Taking more would call a lost batch a duplicate.
func eachBatch(segment []byte, f func(batch []byte)) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for len(segment) >= batchHeader {
		size := int64(binary.BigEndian.Uint32(segment[batchLengthAt:])) + batchLengthAt + 4
		if size < batchHeader || size > int64(len(segment)) {
			return
		}
		batch := segment[:size]
		if crc32.Checksum(batch[batchSummedAt:], table) != binary.BigEndian.Uint32(batch[batchCRCAt:]) {
			return
		}
		f(batch)
		segment = segment[size:]
	}
}

// producerOf returns a batch's producer id (negative when it has none that counts its batches), epoch and place.
func producerOf(batch []byte) (pid int64, epoch int16, span sequenceSpan) {
	if binary.BigEndian.Uint16(batch[batchAttributes:])&batchIsControl != 0 {
		return -1, 0, span
	}
	first := binary.BigEndian.Uint32(batch[batchSequenceAt:])
	span = sequenceSpan{
		First: int32(first),
		// The broker counts modulo 2^31-1 (Kafka: 2^31). Both ends of the comparison are its own.
		Next:   int32((uint64(first) + uint64(binary.BigEndian.Uint32(batch[batchCountAt:]))) % (1<<31 - 1)),
		Offset: int64(binary.BigEndian.Uint64(batch)),
	}
	return int64(binary.BigEndian.Uint64(batch[batchPidAt:])), int16(binary.BigEndian.Uint16(batch[batchEpochAt:])), span
}
