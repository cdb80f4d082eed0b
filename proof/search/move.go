package search

import (
	"fmt"
	"strings"
)

// Act is what happens in a step.
type Act uint8

// The acts.
const (
	Ask         Act = iota // a request or the timer reaches the order service
	Deliver                // the next record is handled or dropped
	Redeliver              // a record that was delivered comes again
	CrashBefore            // the service dies before it commits what it does with the next record
	CrashAfter             // the service dies after that, before anybody hears of it: the record comes again
	Resend                 // a relay dies after sending, and its successor sends the last record again
)

// Move is one step of a schedule.
type Move struct {
	Act     Act
	Order   int    // which order
	Service string // who acts
	Fact    string // what it hears, or sends again
	Source  string // who published it; empty for Ask
	Number  int    // its number; 0 for Ask
}

// String is the step for people.
func (v Move) String() string {
	what := fmt.Sprintf("%s #%d of order %c", strings.TrimSuffix(v.Fact, ".v1"), v.Number, 'A'+v.Order)
	switch v.Act {
	case Ask:
		return fmt.Sprintf("%s: %s order %c", v.Service, v.Fact, 'A'+v.Order)
	case Deliver:
		return v.Service + " gets " + what
	case Redeliver:
		return v.Service + " gets once more " + what
	case CrashBefore:
		return v.Service + " dies before it commits what it did on " + what
	case CrashAfter:
		return v.Service + " dies after committing what it did on " + what + ", which will come again"
	default:
		return v.Service + "'s relay dies after sending, and sends again " + what
	}
}

// move is a Move by numbers, without its order.
type move struct {
	act                           Act
	service, source, fact, number uint8
}

// show is a move for people.
func (m *Model) show(v move, order int) Move {
	w := Move{Act: v.act, Order: order, Service: m.machines[v.service].name, Fact: m.facts[v.fact], Number: int(v.number)}
	if v.act != Ask {
		w.Source = m.machines[v.source].name
	}
	return w
}

func (v move) dup() uint8 {
	if v.act == Redeliver {
		return 1
	}
	return 0
}

func (v move) crash() uint8 {
	if v.act == CrashBefore || v.act == CrashAfter || v.act == Resend {
		return 1
	}
	return 0
}
