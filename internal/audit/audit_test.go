package audit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A server that is late once, as on a machine that stalls, is asked again; one
// that stays away, or refuses, is an error.
func TestRun_AnswerIsLate_IsAskedForAgainUntilSettleIsOver(t *testing.T) {
	t.Parallel()
	const settle = 10 * time.Second
	late := fmt.Errorf("cluster metadata: %w", context.DeadlineExceeded)
	refused := errors.New("connection refused")
	for name, c := range map[string]struct {
		answers []error // of the looks, the last one for good
		want    error
		looks   int
	}{
		"late once":   {[]error{late, nil}, nil, 2},
		"never there": {[]error{late}, late, 3},
		"refused":     {[]error{refused}, refused, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			looks := 0
			v, err := run(t.Context(), Source{}, settle, func(context.Context, Source) (*Data, error) {
				err := c.answers[min(looks, len(c.answers)-1)]
				looks++
				if err != nil {
					time.Sleep(settle - time.Second) // synctest: no time passes
					return nil, err
				}
				return sound(), nil
			})
			if !errors.Is(err, c.want) || v.Clean != (c.want == nil) {
				t.Errorf("%s: clean %v, %v; want %v", name, v.Clean, err, c.want)
			}
			if looks != c.looks {
				t.Errorf("%s: %d looks, want %d", name, looks, c.looks)
			}
		})
	}
}
