package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRun_MoreOrdersThanAtOnce_EachShareIsLookedAtAndWhatIsFoundTwiceIsNamedOnce(t *testing.T) {
	t.Parallel()
	a := auditor{src: Source{AtOnce: 1}, count: few, load: func(_ context.Context, _ Source, s share) (*Data, error) {
		d := sound()
		d.Services[1].Parked = []Parked{{Stream: Stream{"/order-svc", "of share " + strconv.Itoa(int(s.n))}}}
		clear(d.Services[1].Offsets)
		if s.of != 3 {
			t.Errorf("%d shares, want 3", s.of)
		}
		return d, nil
	}}
	v, err := a.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var parked []string
	other := map[string]int{}
	for _, d := range v.Differences {
		if d.Check == "parked" {
			_, share, _ := strings.Cut(d.Text, "parked of share ")
			parked = append(parked, share[:1])
		} else {
			other[d.Text]++
		}
	}
	if got := strings.Join(parked, " "); v.Clean || v.Orders != 3*len(sound().Orders) || got != "0 1 2" {
		t.Errorf("parked in the shares %q: %+v", got, v)
	}
	if len(other) == 0 || slices.Max(slices.Collect(maps.Values(other))) != 1 {
		t.Errorf("want what belongs to a partition once, got %v", other)
	}
}

func TestShare_EachKeyIsInOne(t *testing.T) {
	t.Parallel()
	for i := range 1000 {
		key, in := "key-"+strconv.Itoa(i), 0
		for n := range uint32(7) {
			if (share{n, 7}).has(key) {
				in++
			}
		}
		if in != 1 || !(share{}).has(key) || !(share{0, 1}).has(key) {
			t.Errorf("%s is in %d of 7 shares", key, in)
		}
	}
}

func few(context.Context, Source) (int, error) { return 3, nil }

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
			a := auditor{settle: settle, count: few, load: func(context.Context, Source, share) (*Data, error) {
				err := c.answers[min(looks, len(c.answers)-1)]
				looks++
				if err != nil {
					time.Sleep(settle - time.Second) // synctest: no time passes
					return nil, err
				}
				return sound(), nil
			}}
			v, err := a.run(t.Context())
			if !errors.Is(err, c.want) || v.Clean != (c.want == nil) {
				t.Errorf("%s: clean %v, %v; want %v", name, v.Clean, err, c.want)
			}
			if looks != c.looks {
				t.Errorf("%s: %d looks, want %d", name, looks, c.looks)
			}
		})
	}
}
