package stack

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"pavane/cmd/pavane/internal/client"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

const (
	readyPoll   = 20 * time.Millisecond
	readyWithin = 2 * time.Second // for one answer
)

// Ready waits until the gateway is ready and reaches the others. An error names
// what was missing last.
func (s *Stack) Ready(ctx context.Context) error {
	gateway := s.State().Client()
	for _, route := range []string{"/readyz", "/v1/products"} {
		for {
			err := get(ctx, gateway, route)
			if err == nil {
				break
			}
			select {
			case <-time.After(readyPoll):
			case <-ctx.Done():
				return fmt.Errorf("not ready: %w", err)
			}
		}
	}
	return nil
}

func get(ctx context.Context, gateway *client.Client, route string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	a, err := gateway.Do(ctx, http.MethodGet, route, nil)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", route, a.Text())
	}
	return err
}

const statesSQL = `select count(*) filter (where state = 'placed'), count(*) filter (where state = 'confirmed'),
  count(*) filter (where state = 'cancelled') from orders`

// Summary is one line on how the demo is doing.
func (s *Stack) Summary(ctx context.Context) (string, error) {
	db, err := postgres.Open(postgres.Config{URL: DatabaseURL(s.State().Postgres, "orders"), MaxConns: 1, Name: "pavane-up"})
	if err != nil {
		return "", err
	}
	defer db.Close() //nolint:errcheck // it was only read
	var placed, confirmed, cancelled int64
	if err := db.SQL().QueryRowContext(ctx, statesSQL).Scan(&placed, &confirmed, &cancelled); err != nil {
		return "", fmt.Errorf("count orders: %w", err)
	}
	backlog, err := relay.LoadBacklog(ctx, db)
	if err != nil {
		return "", err
	}
	_, mails := s.Mail.Mails()
	return fmt.Sprintf("orders: %d confirmed, %d cancelled, %d under way; %d events wait in the outbox; %d mails",
		confirmed, cancelled, placed, backlog.Rows, mails), nil
}
