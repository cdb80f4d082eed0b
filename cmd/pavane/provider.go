package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"pavane/internal/providersim"
)

const (
	providerHeaderTime = 5 * time.Second
	providerStopTime   = 2 * time.Second
)

func providerCommand() *cobra.Command {
	var listen, ledger string
	c := &cobra.Command{
		Use:   "provider",
		Short: "Run a simulated card provider with a ledger of its own",
		Long: `Holds, takes and gives back money on cards that do not exist, for payment-svc
(PAVANE_PROVIDER_URL). Its ledger is a file that survives its death, and the judge
of whether each order was charged as it should be: pavane audit reads it.

The card's token says what goes wrong: tok_ok, tok_refuse, tok_stall, tok_never,
tok_fail, tok_fail_after_charge, tok_lose_answer, tok_twice, tok_late, tok_garbage.
So does PUT /v1/admin/faults, for all cards:

  curl -X PUT URL/v1/admin/faults -d '{"down":true}'
  curl -X PUT URL/v1/admin/faults -d '{"refuse_percent":10,"lose_percent":20,"slow_ms":100}'
  curl -X PUT URL/v1/admin/faults -d '{}'

With PAVANE_PROVIDER_KEY in the environment, callers must show that key.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runProvider(c.Context(), listen, ledger) },
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8089", "host:port to serve on; port 0 takes a free one")
	c.Flags().StringVar(&ledger, "ledger", "provider.jsonl", "file of the ledger; made when it is not there")
	return c
}

func runProvider(ctx context.Context, listen, path string) error {
	ledger, err := providersim.OpenLedger(path)
	if err != nil {
		return err
	}
	defer ledger.Close() //nolint:errcheck // each line was written through
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("provider: listen on %s: %w: choose another --listen", listen, err)
	}
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	logger.Info("provider simulator", "url", "http://"+l.Addr().String(), "ledger", path)
	srv := &http.Server{
		Handler:           providersim.NewServer(ledger, os.Getenv("PAVANE_PROVIDER_KEY"), logger),
		ReadHeaderTimeout: providerHeaderTime, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("provider: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), providerStopTime)
	defer cancel()
	if err := srv.Shutdown(stopping); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("provider: stop: %w", err)
	}
	return nil
}
