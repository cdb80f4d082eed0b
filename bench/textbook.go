package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/segmentio/kafka-go"

	"pavane/shared/postgres"
)

// textbookPoll is the pause of the textbook relay when it finds nothing.
const textbookPoll = 10 * time.Millisecond

const (
	takeSQL = `select id, topic, key, headers, payload from textbook_outbox
where published_at is null order by id limit $1 for update skip locked`
	markSQL = `update textbook_outbox set published_at = clock_timestamp() where id = any ($1)`
)

// textbook runs the relay of the tutorials, tuned: it takes rows that are not
// marked, writes them and marks them. Without BatchTimeout and BatchSize the
// writer would wait a second for each batch to fill.
func (j job) textbook(ctx context.Context) error {
	db, err := postgres.Open(postgres.Config{URL: j.URL, MaxConns: 2, Name: "textbook"})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the process ends
	w := &kafka.Writer{
		Addr: kafka.TCP(j.Kafka), Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll,
		BatchSize: j.Poll, BatchTimeout: time.Millisecond,
	}
	defer w.Close() //nolint:errcheck // nothing is under way
	for {
		n := 0
		err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err = publishSome(ctx, tx, w, j.Poll)
			return err
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-time.After(textbookPoll):
		case <-ctx.Done():
			return nil
		}
	}
}

func publishSome(ctx context.Context, tx *sqlx.Tx, w *kafka.Writer, limit int) (int, error) {
	ids, messages, err := take(ctx, tx, limit)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	if err := w.WriteMessages(ctx, messages...); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	_, err = tx.ExecContext(ctx, markSQL, postgres.Array(ids))
	return len(ids), err
}

func take(ctx context.Context, tx *sqlx.Tx, limit int) (ids []int64, messages []kafka.Message, err error) {
	rows, err := tx.QueryContext(ctx, takeSQL, limit)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var (
			id      int64
			headers []byte
			m       kafka.Message
		)
		if err := rows.Scan(&id, &m.Topic, &m.Key, &headers, &m.Value); err != nil {
			return nil, nil, err
		}
		if m.Headers, err = kafkaHeaders(headers); err != nil {
			return nil, nil, err
		}
		ids, messages = append(ids, id), append(messages, m)
	}
	return ids, messages, rows.Err()
}

func kafkaHeaders(object []byte) ([]kafka.Header, error) {
	var values map[string]string
	if err := json.Unmarshal(object, &values); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	headers := make([]kafka.Header, 0, len(values))
	for name, value := range values {
		headers = append(headers, kafka.Header{Key: name, Value: []byte(value)})
	}
	slices.SortFunc(headers, func(a, b kafka.Header) int { return len(a.Key) - len(b.Key) })
	return headers, nil
}
