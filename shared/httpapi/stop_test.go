package httpapi_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/httpapi"
)

func TestStop_ReadinessFirst_ThenNoNewConnections_InFlightFinishes(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	s := httpapi.New(httpapi.Config{Title: "T", Version: "1", Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Drain: 300 * time.Millisecond})
	s.Handle("GET /slow", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "whole")
	}))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ran, stopped, answered := make(chan error, 1), make(chan error, 1), make(chan string, 1)
	go func() { ran <- s.Run(context.Background()) }()
	go func() { body, _ := get(t, s.Addr(), "/slow"); answered <- body }()
	<-entered
	go func() { stopped <- s.Stop(context.Background()) }()

	within(t, "readyz says 503 while requests are taken", func() bool {
		body, err := get(t, s.Addr(), "/readyz")
		return err == nil && strings.Contains(body, "[-]not-stopping")
	})
	within(t, "new connections are refused", func() bool {
		c, err := net.Dial("tcp", s.Addr())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("stop did not wait for the request in flight: %v", err)
	default:
	}
	close(release)
	if body := <-answered; body != "whole" {
		t.Errorf("the request in flight got %q", body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestStream_OutlivesNoStopAndIsFlushed(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	s.Handle("GET /stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := httpapi.Stream(w, r)
		defer cancel()
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-ctx.Done()
		io.WriteString(w, "data: end\n\n")
	}))
	addr := serve(t, s)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/stream", nil)
	resp := send(t, r)
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "data: 1\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatalf("a stream holds the stop: %v", err)
	}
	if rest, err := io.ReadAll(lines); err != nil || !strings.Contains(string(rest), "data: end") {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestRun_ContextEnds_CutsRequestsOff(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStop_WithoutRun_FreesThePort(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestStart_PortTaken_NamesTheAddressAndTheRemedy(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := httpapi.New(httpapi.Config{Addr: l.Addr().String(), Logger: slog.New(slog.DiscardHandler)})
	err = s.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "free") {
		t.Errorf("got %v", err)
	}
}

func TestHandlerThatWaits_OutlivesTheTimeLimitForTheBody(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, ok)
	type input struct {
		Body *order // optional: the limit is set though nothing is read
	}
	op := huma.Operation{OperationID: "wait", Method: http.MethodPost, Path: "/wait", BodyReadTimeout: 50 * time.Millisecond}
	httpapi.Register(s, op, func(ctx context.Context, _ *input) (*struct{}, error) {
		longer := time.NewTimer(4 * op.BodyReadTimeout)
		defer longer.Stop()
		select {
		case <-longer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+serve(t, s)+"/wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp := send(t, r); resp.StatusCode != http.StatusNoContent {
		t.Errorf("got %d", resp.StatusCode)
	}
}
