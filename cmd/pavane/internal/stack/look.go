package stack

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"pavane/shared/postgres"
	"pavane/shared/relay"
)

const readyPoll = 20 * time.Millisecond

// Ready waits until the gateway is ready and reaches the others. An error names
// what was missing last.
func (s *Stack) Ready(ctx context.Context) error {
	client := &http.Client{Timeout: 2 * time.Second}
	for _, route := range []string{"/readyz", "/v1/products"} {
		for {
			err := get(ctx, client, s.State().Gateway+route)
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

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only the status counts
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return nil
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
