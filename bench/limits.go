package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"golang.org/x/sync/errgroup"

	"pavane/shared/broker"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// limit is what the machine allows in a round, rows per second.
type limit struct {
	Read     float64 `json:"read_per_s"`    // the rows, with the driver, and nothing done with them
	Produce  float64 `json:"produce_per_s"` // batches encoded beforehand
	Combined float64 `json:"combined_per_s"`
}

const (
	readChunk    = 10000
	produceBatch = 1000
)

// limits measures both on a backlog that is filled already.
func (t *trial) limits(ctx context.Context, batches [partitions][][]byte, rows int) (limit, error) {
	var l limit
	began := time.Now()
	n, err := readAll(ctx, t.pg.URL(t.name))
	if err != nil {
		return l, err
	}
	l.Read = perSecond(n, time.Since(began))
	began = time.Now()
	if err := t.produceAll(ctx, batches); err != nil {
		return l, err
	}
	l.Produce = perSecond(rows, time.Since(began))
	l.Combined = 1 / (1/l.Read + 1/l.Produce)
	return l, nil
}

// readAll walks the outbox by its id.
func readAll(ctx context.Context, url string) (rows int, err error) {
	db, err := postgres.Open(relay.Pool(url))
	if err != nil {
		return 0, err
	}
	defer db.Close() //nolint:errcheck // it was only read
	for at := int64(0); ; {
		n, err := readSome(ctx, db.SQL(), &at)
		if err != nil {
			return 0, fmt.Errorf("read: %w", err)
		}
		if rows += n; n < readChunk {
			return rows, nil
		}
	}
}

func readSome(ctx context.Context, db *sql.DB, at *int64) (n int, err error) {
	rows, err := db.QueryContext(ctx, `select id, topic, key, headers, payload from outbox where id > $1 order by id limit $2`, *at, readChunk)
	if err != nil {
		return 0, err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var topic, key, headers, payload sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(at, &topic, &key, &headers, &payload); err != nil {
			return 0, err
		}
		n++
	}
	return n, rows.Err()
}

// encodeWork makes the record batches of the first rows of work, by partition.
func encodeWork(rows int) (batches [partitions][][]byte, err error) {
	var waiting [partitions][]protocol.Record
	flush := func(p int32) error {
		if len(waiting[p]) == 0 {
			return nil
		}
		set := protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(waiting[p]...)}
		var b bytes.Buffer
		if _, err := set.WriteTo(&b); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		batches[p], waiting[p] = append(batches[p], b.Bytes()), nil
		return nil
	}
	now := time.Now()
	for n := range rows {
		it := newItem(n)
		p := broker.Partition([]byte(it.key), partitions)
		record := protocol.Record{Time: now, Key: protocol.NewBytes([]byte(it.key)), Value: protocol.NewBytes(it.payload)}
		for _, h := range it.headers() {
			record.Headers = append(record.Headers, protocol.Header{Key: h.Key, Value: h.Value})
		}
		if waiting[p] = append(waiting[p], record); len(waiting[p]) == produceBatch {
			if err := flush(p); err != nil {
				return batches, err
			}
		}
	}
	var errs []error
	for p := range waiting {
		errs = append(errs, flush(int32(p)))
	}
	return batches, errors.Join(errs...)
}

// produceAll writes the batches of each partition one after the other, all
// partitions at once.
func (t *trial) produceAll(ctx context.Context, batches [partitions][][]byte) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(t.kafka.Addr()), Transport: transport, Timeout: stopTime}
	group, ctx := errgroup.WithContext(ctx)
	for p, all := range batches {
		group.Go(func() error {
			for _, b := range all {
				res, err := client.RawProduce(ctx, &kafka.RawProduceRequest{
					Topic: t.name, Partition: p, RequiredAcks: kafka.RequireAll,
					RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(b)},
				})
				if err == nil {
					err = res.Error
				}
				if err != nil {
					return fmt.Errorf("produce: %w", err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// warm has a fresh broker compile what it will need: without it, its first
// minute costs ten times the CPU.
func (r *rig) warm(ctx context.Context, batches [partitions][][]byte) (err error) {
	r.say("  warming up the broker")
	t, err := r.newTrial(ctx, pavane())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	for began := time.Now(); time.Since(began) < r.warmUp; {
		if err := t.produceAll(ctx, batches); err != nil {
			return err
		}
	}
	_, err = t.count(ctx, 0)
	return err
}
