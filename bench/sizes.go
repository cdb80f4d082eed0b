package main

import "time"

// sizes is how much of everything a run measures.
type sizes struct {
	rows   int // of a drain
	work   int // rows at hand
	rounds int // of drains and limits, interleaved
	kills  int

	backed         int64         // bytes of memory put at hand before a measured part: with those of before, more than it takes
	peers          []way         // what Pavane is measured beside
	warmUps        int           // times that the broker is given a drain's batches before anything counts
	warmDrains     int           // and drains at most
	warmSinglesFor time.Duration // load of records one by one before any latency counts
	settleIn       time.Duration // load before anything counts
	latencyRounds  int
	latencyFor     time.Duration   // of a round
	flushes        []time.Duration // that a commit waits for besides the disk's
	cycles         int
	slice          time.Duration
	sustainedFor   time.Duration // Pavane's; the others a third of it
	sideWays       int           // how many of the ways are watched idle, and held up: Pavane, then the textbook
	heldRounds     int
	heldFor        time.Duration
	idleFor        time.Duration
	inboxRecords   int
	inboxFull      int // keys that an inbox knows beforehand
	inboxRounds    int
	sagaRate       float64 // orders a second
	sagaFor        time.Duration
	sagaWarmUp     time.Duration
}

func sizesOf(o options) sizes {
	s := sizes{
		rows: 200000, rounds: 3, kills: 5, backed: 256 << 20, peers: []way{textbook1000(), textbook100()},
		warmUps: 10, warmDrains: 4, warmSinglesFor: 8 * time.Second, settleIn: time.Second,
		latencyRounds: 3, latencyFor: 4 * time.Second, flushes: []time.Duration{0, slowFlush}, cycles: 8, slice: 400 * time.Millisecond,
		sustainedFor: 30 * time.Second, sideWays: 2, heldRounds: 2, heldFor: 5 * time.Second, idleFor: 6 * time.Second,
		inboxRecords: 100000, inboxFull: 1000000, inboxRounds: 2, sagaRate: 25, sagaFor: 10 * time.Second, sagaWarmUp: 4 * time.Second,
	}
	if o.quick {
		s = sizes{
			rows: 20000, rounds: 1, kills: 5, backed: 64 << 20, peers: []way{textbook1000()},
			warmUps: 3, warmDrains: 1, warmSinglesFor: 600 * time.Millisecond, settleIn: 300 * time.Millisecond,
			latencyRounds: 1, latencyFor: 800 * time.Millisecond, flushes: []time.Duration{slowFlush}, cycles: 2, slice: 150 * time.Millisecond,
			sustainedFor: 1500 * time.Millisecond, sideWays: 1, heldRounds: 1, heldFor: 600 * time.Millisecond, idleFor: time.Second,
			inboxRecords: 6000, inboxFull: 15000, inboxRounds: 1, sagaRate: 20, sagaFor: time.Second, sagaWarmUp: 500 * time.Millisecond,
		}
	}
	if o.rows > 0 {
		s.rows = o.rows
	}
	s.work = s.rows
	return s
}

// ways are all that is measured.
func (s sizes) ways() []way { return append([]way{pavane()}, s.peers...) }

// rowsOf is how many rows a way drains: a slow one fewer, it costs the same a row.
func (s sizes) rowsOf(w way) int {
	switch w.poll {
	case 0:
		return s.rows
	case 100:
		return min(s.rows, 200000) / 5
	default:
		return min(s.rows, 200000) / 4
	}
}
