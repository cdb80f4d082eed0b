package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pavane/internal/devstack"
	"pavane/shared/brokertest"
	"pavane/shared/pgtest"
)

// TestRun_WholeProcess_PlacesAndEndsAnOrderByItself runs main's run on a real
// database and broker, with nobody else there: the deadline must end the order.
func TestRun_WholeProcess_PlacesAndEndsAnOrderByItself(t *testing.T) {
	addr := freeAddr(t)
	for name, value := range map[string]string{
		"DATABASE": pgtest.Database(t), "BROKERS": brokertest.StartFake(t).Addr(), "CREATE_TOPICS": "true",
		"HTTP_ADDR": addr, "REGISTRY_STATIC": "order-svc=" + addr, "SEED": "demo", "ORDER_DEADLINE": "200ms", "LOG_LEVEL": "error",
	} {
		t.Setenv("PAVANE_"+name, value)
	}
	ctx, stop := context.WithTimeout(context.Background(), 60*time.Second)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	awaitReady(ctx, t, "http://"+addr+"/readyz", ended)

	status, placed := call(ctx, t, http.MethodPost, "http://"+addr+"/v1/orders", `{"customer_id": "cust-01", "items": [{"sku": "tin", "quantity": 1}]}`)
	if status != http.StatusCreated {
		t.Fatalf("place: %d, %v", status, placed)
	}
	status, order := call(ctx, t, http.MethodGet, "http://"+addr+"/v1/orders/"+placed["order_id"].(string)+"?wait=20s", "")
	if status != http.StatusOK || order["state"] != "cancelled" || order["reason"] != "deadline" {
		t.Errorf("after the deadline: %d, %v", status, order)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := devstack.FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func awaitReady(ctx context.Context, t *testing.T, url string, ended <-chan error) {
	t.Helper()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("the service ended before it was ready: %v", err)
		case <-ctx.Done():
			t.Fatal("the service did not become ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func call(ctx context.Context, t *testing.T, method, url, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var v map[string]any
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil {
		t.Fatalf("%s %s: %d: %v", method, url, res.StatusCode, err)
	}
	return res.StatusCode, v
}
