package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"golang.org/x/sync/errgroup"

	"pavane/shared/broker"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

// limit is what the machine allows in a round, rows per second, and what that
// costs, microseconds of CPU time a row.
type limit struct {
	Read       float64 `json:"read_per_s"`    // the rows, with the driver, and nothing done with them
	Produce    float64 `json:"produce_per_s"` // batches encoded beforehand
	Combined   float64 `json:"combined_per_s"`
	ReadCPU    float64 `json:"read_us"`
	ProduceCPU float64 `json:"produce_us"`
}

const (
	readChunk    = 10000
	produceBatch = 1000
	limitsTopic  = "bench_limits" // which nobody reads
)

// limits measures both on a backlog that is filled already.
func (t *trial) limits(ctx context.Context, batches [partitions][][]byte, rows int) (limit, error) {
	if err := t.calm(ctx); err != nil {
		return limit{}, err
	}
	before := t.read(nil)
	n, err := readAll(ctx, t.pg.URL(t.name))
	if err != nil {
		return limit{}, err
	}
	between := t.read(nil)
	if err := t.produceAll(ctx, limitsTopic, batches); err != nil {
		return limit{}, err
	}
	read, produced := between.since(before, n), t.read(nil).since(between, rows)
	l := limit{
		Read: float64(n) / read.Seconds, Produce: float64(rows) / produced.Seconds,
		ReadCPU: read.Self + read.Postgres, ProduceCPU: produced.Self + produced.Broker,
	}
	l.Combined = 1 / (1/l.Read + 1/l.Produce)
	return l, nil
}

// mean is the limit over the time of both.
func mean(a, b limit) limit {
	rate := func(a, b float64) float64 { return math.Round(2 / (1/a + 1/b)) }
	return limit{
		Read: rate(a.Read, b.Read), Produce: rate(a.Produce, b.Produce), Combined: rate(a.Combined, b.Combined),
		ReadCPU: (a.ReadCPU + b.ReadCPU) / 2, ProduceCPU: (a.ProduceCPU + b.ProduceCPU) / 2,
	}
}

// readSQL reads what a record is made of.
const readSQL = `select id, topic, key, headers, payload, event_id, type, sequence, timestamptz_send(created_at)
from outbox where id > $1 order by id limit $2`

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
	rows, err := db.QueryContext(ctx, readSQL, *at, readChunk)
	if err != nil {
		return 0, err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var topic, key, headers, payload, id, kind, made sql.RawBytes
	var sequence int64
	for rows.Next() {
		if err := rows.Scan(at, &topic, &key, &headers, &payload, &id, &kind, &sequence, &made); err != nil {
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
		for _, h := range it.envelope().Headers() {
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
func (r *rig) produceAll(ctx context.Context, topic string, batches [partitions][][]byte) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(r.kafka.Addr()), Transport: transport, Timeout: stopTime}
	group, ctx := errgroup.WithContext(ctx)
	for p, all := range batches {
		group.Go(func() error {
			for _, b := range all {
				res, err := client.RawProduce(ctx, &kafka.RawProduceRequest{
					Topic: topic, Partition: p, RequiredAcks: kafka.RequireAll,
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

// warm has a fresh broker compile what it will need: without it, its first minute
// costs ten times the CPU. Java compiles a method anew when calls of another kind
// come, so each way has a drain that does not count, of few rows when it is slow, and
// then come Pavane's until one finds the compiler at rest or warmDrains have been.
func (r *rig) warm(ctx context.Context, batches [partitions][][]byte) error {
	r.say("  warming up the broker")
	client, err := r.client(limitsTopic)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.EnsureTopics(ctx, []broker.Topic{{Name: limitsTopic, Partitions: partitions}}); err != nil {
		return err
	}
	for range r.warmUps {
		if err := r.produceAll(ctx, limitsTopic, batches); err != nil {
			return err
		}
	}
	for _, w := range r.peers {
		if _, err := r.warmDrain(ctx, w, r.rowsOf(w)/4, batches); err != nil {
			return err
		}
	}
	for range r.warmDrains {
		u, err := r.warmDrain(ctx, pavane(), r.rows, batches)
		if err != nil || u.Compiler < atRest*u.Broker {
			return err
		}
	}
	return nil
}

// atRest is the share of the broker's time below which its compiler has nothing
// more to do.
const atRest = 0.1

func (r *rig) warmDrain(ctx context.Context, w way, rows int, batches [partitions][][]byte) (_ usage, err error) {
	t, err := r.newFilled(ctx, w, rows)
	if err != nil {
		return usage{}, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	if err := t.breakIn(ctx, batches); err != nil {
		return usage{}, err
	}
	d, err := t.drain(ctx, rows)
	if err != nil {
		return usage{}, err
	}
	r.say("    %s: %.0f rows/s, the broker %.1f µs/row, %.1f of it Java's compiler", w.name, d.Rate, d.CPU.Broker, d.CPU.Compiler)
	return d.CPU, nil
}
