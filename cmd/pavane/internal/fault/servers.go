package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"pavane/internal/providersim"
	"pavane/shared/broker"
	"pavane/shared/contract"
	"pavane/shared/postgres"
)

// serverPoll is the pause between two looks whether a server is there, lookTime how
// long one look may take.
const (
	serverPoll = 20 * time.Millisecond
	lookTime   = 5 * time.Second
)

// AwaitBroker returns when somebody listens at host:port.
func AwaitBroker(ctx context.Context, addr string) error {
	return await(ctx, "the broker at "+addr, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close() //nolint:errcheck // nothing was said
		}
		return err
	})
}

// AwaitLog returns when all topics of a system can be read. A Kafka listens long
// before that.
func AwaitLog(ctx context.Context, d Driver) error {
	brokers, namespace := d.Log()
	c, err := broker.Dial(broker.Config{Brokers: brokers, ClientID: "pavane-break"})
	if err != nil {
		return err
	}
	defer c.Close()
	var topics []string
	for _, topic := range contract.Topics() {
		topics = append(topics, namespace+topic)
	}
	return await(ctx, "the log", func(ctx context.Context) error {
		_, err := c.Offsets(ctx, topics...)
		return err
	})
}

// AwaitPostgres returns when the server at a URL answers.
func AwaitPostgres(ctx context.Context, server string) error {
	db, err := postgres.Open(postgres.Config{URL: server, MaxConns: 1, Name: "pavane-break"})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was only asked whether it is there
	return await(ctx, "Postgres", db.Ping)
}

func await(ctx context.Context, what string, look func(context.Context) error) error {
	tick := time.NewTicker(serverPoll)
	defer tick.Stop()
	for {
		one, cancel := context.WithTimeout(ctx, lookTime)
		err := look(one)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s does not come up: %w", what, err)
		}
	}
}

// SlowDisk has each flush of a Postgres take longer, 100 ms at most; 0 is as it
// is. Server is its URL with a superuser. It takes no root: commit_delay is meant
// for other ends, and does just that.
func SlowDisk(ctx context.Context, server string, added time.Duration) error {
	db, err := postgres.Open(postgres.Config{URL: server, MaxConns: 1, Name: "pavane-break"})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the settings are made
	for _, set := range []string{
		fmt.Sprintf("alter system set commit_delay = %d", added.Microseconds()),
		"alter system set commit_siblings = 0", "select pg_reload_conf()",
	} {
		if _, err := db.SQL().ExecContext(ctx, set); err != nil {
			return fmt.Errorf("slow the disk of Postgres down: %w", err)
		}
	}
	return nil
}

// SetProvider replaces what goes wrong at the card provider at a URL.
func SetProvider(ctx context.Context, provider string, f providersim.Faults) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, provider+"/v1/admin/faults", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("switch the faults of the card provider: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // its status says all
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("switch the faults of the card provider: it answers %s", resp.Status)
	}
	return nil
}
