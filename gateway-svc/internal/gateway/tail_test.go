package gateway

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"pavane/shared/broker"
)

// silentLog is a log that says nothing until it may, or the asker leaves.
type silentLog struct {
	asked, speak chan struct{}
}

func (s *silentLog) Offsets(ctx context.Context, _ ...string) (map[string][]broker.Range, error) {
	s.asked <- struct{}{}
	select {
	case <-s.speak:
		return map[string][]broker.Range{"t": {{End: 7}}}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *silentLog) Fetch(ctx context.Context, _ []broker.Position, _ time.Duration, _ int) (broker.Fetched, error) {
	<-ctx.Done()
	return broker.Fetched{}, ctx.Err()
}

func TestTail_LogIsSilent_NobodyWaitsForAnother(t *testing.T) {
	t.Parallel()
	log := &silentLog{asked: make(chan struct{}, 10), speak: make(chan struct{})}
	ta := newTail(log, []string{"t"}, 1, slog.New(slog.DiscardHandler))
	listen := func(ctx context.Context) <-chan error {
		ended := make(chan error, 1)
		go func() {
			_, at, err := ta.listen(ctx)
			if err == nil && at[0].Offset != 7 {
				err = errors.New("it begins elsewhere than at the end of the log")
			}
			ended <- err
		}()
		return ended
	}
	within := func(what string, ended <-chan error) error {
		t.Helper()
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("still waiting: " + what)
			return nil
		}
	}
	first := listen(t.Context())
	<-log.asked
	ctx, leave := context.WithCancel(t.Context())
	gone := listen(ctx)
	leave()
	if err := within("one whose client left", gone); !errors.Is(err, context.Canceled) {
		t.Errorf("one whose client left: %v", err)
	}
	second := listen(t.Context())
	close(log.speak)
	for _, ended := range []<-chan error{first, second} {
		if err := within("one that stays", ended); err != nil {
			t.Error(err)
		}
	}
	ta.mu.Lock()
	if n := len(ta.listeners); n != 2 {
		t.Errorf("%d listeners, want 2", n)
	}
	ta.mu.Unlock()
	ta.close()
	if _, _, err := ta.listen(t.Context()); err == nil {
		t.Error("somebody listens to a gateway that is closed")
	}
}
