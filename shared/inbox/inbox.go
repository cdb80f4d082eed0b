// Package inbox owns the tables inbox, inbox_offset and parked: what a service
// has applied of each key of each source, from where it reads on, and which
// records wait. It is SQL only, one round trip for any number of records; what
// a record does is decided in package react.
//
// One rule makes it safe: whoever changes inbox or parked for records of a
// partition holds that partition's row of inbox_offset. A consumer whose
// partition was given to another one, a redrive and a discard therefore wait
// for each other and then see what the other did.
package inbox

import (
	"strings"
	"time"
	"unicode/utf8"
)

// ID names a key of one source: the thing whose events are numbered 1, 2, 3 …
type ID struct {
	Source, Key string
}

// Valid tells whether the tables can hold the id: UTF-8 without NUL, and short
// enough for an index entry of PostgreSQL (2,704 bytes).
func (id ID) Valid() bool {
	return len(id.Source)+len(id.Key) <= maxID && text(id.Source) == id.Source && text(id.Key) == id.Key
}

const maxID = 2000

// text makes any bytes fit for a text column.
func text(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Offset is where reading of a partition goes on.
type Offset struct {
	Topic     string
	Partition int32
	Next      int64
	First     int64 // where it began; above 0: the log had lost its first records by then
}

// State is what the inbox knows of an id. The zero State is that of an id
// nothing was applied of.
type State struct {
	Last int64 // the last applied number
	Head int64 // the lowest parked number; 0: nothing is parked
}

// Place tells where a record stands after the last applied number of its key.
type Place int

// The places a record can have.
const (
	Duplicate Place = iota // applied before
	Next                   // the one that is due
	Gap                    // one or more before it are missing
)

// Place returns the place of the record with number seq. It looks at Last only.
func (s State) Place(seq int64) Place {
	switch {
	case seq <= s.Last:
		return Duplicate
	case seq == s.Last+1:
		return Next
	default:
		return Gap
	}
}

// Cause tells why a record is parked and thereby who moves it on.
type Cause string

// The causes; the table's check constraint lists the same.
const (
	Fault          Cause = "fault"           // its handler cannot do it: an operator
	Missing        Cause = "gap"             // the record before it has not come: that record
	Undecodable    Cause = "undecodable"     // not an event: an operator
	Foreign        Cause = "foreign"         // an event that does not belong on its topic: an operator
	UnknownVersion Cause = "unknown_version" // a newer major version of a kind: the upgrade
	Retry          Cause = "retry"           // its handler failed: the clock
	Follows        Cause = "follows"         // another record of its key waits: that record
)

// Parked is a record that waits.
type Parked struct {
	ID
	Sequence  int64
	Topic     string
	Partition int32
	Offset    int64
	Kind      string
	Headers   []byte // the header section of a v2 record, see event.AppendHeaders
	Payload   []byte
	Reason    string
	Cause     Cause
	Attempts  int           // how often its handler failed
	RetryIn   time.Duration // until the next attempt, for [Retry] only; at most a minute
}
