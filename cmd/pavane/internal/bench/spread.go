package bench

import (
	"math"
	"slices"
	"time"
)

// Spread tells how a set of durations lies, in milliseconds. Of an empty set
// all is zero.
type Spread struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
}

func spread(all []time.Duration) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(share float64) float64 { // the smallest value that this share does not exceed
		return ms(sorted[max(int(math.Ceil(share*float64(len(sorted))))-1, 0)])
	}
	return Spread{P50: at(.5), P90: at(.9), P99: at(.99), Max: ms(sorted[len(sorted)-1]), N: len(sorted)}
}

func ms(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Microsecond)/10) / 100 }
