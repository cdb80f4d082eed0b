package main

import "time"

// sizes is how much of everything a run measures.
type sizes struct {
	rows   int // of a drain
	rounds int // of drains and limits, interleaved
	kills  int

	warmUp time.Duration // of the broker
}

func sizesOf(o options) sizes {
	s := sizes{rows: 200000, rounds: 3, kills: 5, warmUp: 4 * time.Second}
	if o.quick {
		s = sizes{rows: 60000, rounds: 1, kills: 5, warmUp: 2 * time.Second}
	}
	if o.rows > 0 {
		s.rows = o.rows
	}
	return s
}

// rowsOf is how many rows a way drains: a slow one fewer, it costs the same a row.
func (s sizes) rowsOf(w way) int {
	switch w.poll {
	case 0:
		return s.rows
	case 100:
		return min(s.rows, 200000) / 5
	default:
		return min(s.rows, 200000) / 2
	}
}
