package retry_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"pavane/shared/retry"
)

func TestPause_AnyFailures_GrowsAndStaysInBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		first := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(rt, "first"))
		most := first * time.Duration(rapid.IntRange(1, 1000).Draw(rt, "most"))
		failures := rapid.OneOf(rapid.IntRange(0, 40), rapid.Just(math.MaxInt)).Draw(rt, "failures")
		whole := most
		if failures < 12 { // 2^10 is beyond most
			whole = min(most, first<<max(failures-1, 0))
		}
		if got := retry.Pause(failures, first, most); got < whole/2 || got > whole {
			rt.Fatalf("after %d failures: %s, want half to all of %s", failures, got, whole)
		}
	})
}

func TestText_AnyBytes_FitsAColumn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		got := retry.Text(string(rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(rt, "said")))
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") || len(got) > 500 {
			rt.Fatalf("%q", got)
		}
	})
}

func TestOutlive_ItsContextEnds_EndsAfterTheTimeAndNotBefore(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	work, end := retry.Outlive(ctx, 20*time.Millisecond)
	defer end()
	began := time.Now()
	stop()
	<-work.Done()
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("ended after %s", took)
	}
}
