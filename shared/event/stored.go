package event

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

// Stored is an event as a row of the outbox holds it. What the columns tell
// stands there once: the headers of the record that follow from them are made
// when the record is.
type Stored struct {
	ID, Kind, Key []byte
	Sequence      int64
	Time          time.Time
	// Extra is the header section of what the other fields do not tell, as
	// [Envelope.Extra] lists it. A section with the CloudEvents version is
	// complete, and nothing is added to it.
	Extra []byte
}

// Extra returns the headers that a [Stored] cannot derive: the source, the
// correlation id where it is not the key, the cause and the trace.
func (e Envelope) Extra() []Header {
	headers := append(make([]Header, 0, 4), Header{Key: sourceHeader, Value: []byte(e.Source)})
	add := func(key, value string) {
		if value != "" {
			headers = append(headers, Header{Key: key, Value: []byte(value)})
		}
	}
	if e.CorrelationID != e.Key {
		add(correlationHeader, e.CorrelationID)
	}
	add(causationHeader, e.CausationID)
	add(traceHeader, e.TraceParent)
	return headers
}

const (
	versionHeader     = "ce_specversion"
	sourceHeader      = "ce_source"
	correlationHeader = "ce_correlationid"
	causationHeader   = "ce_causationid"
	traceHeader       = "traceparent"
)

// derived are the headers that every stored event has and whose values follow
// from its fields.
const derived = 7

// AppendHeaders appends the header section of the event's record. The same
// event gives the same bytes.
func (s *Stored) AppendHeaders(dst []byte) ([]byte, error) {
	n, extra, err := varint(s.Extra)
	if err != nil {
		return dst, err
	}
	complete, correlated, err := scan(extra, n)
	if err != nil {
		return dst, err
	}
	if complete {
		return append(dst, s.Extra...), nil
	}
	if n += derived; !correlated {
		n++
	}
	var text [40]byte
	dst = binary.AppendVarint(dst, n)
	dst = append(dst, versionSection...)
	dst = appendValue(append(dst, idSection...), s.ID)
	dst = appendValue(append(dst, typeSection...), s.Kind)
	dst = appendValue(append(dst, subjectSection...), s.Key)
	dst = appendValue(append(dst, timeSection...), s.Time.UTC().AppendFormat(text[:0], time.RFC3339Nano))
	dst = appendValue(append(dst, sequenceSection...), strconv.AppendInt(text[:0], s.Sequence, 10))
	dst = append(dst, contentSection...)
	if !correlated {
		dst = appendHeader(dst, correlationHeader, s.Key)
	}
	return append(dst, extra...), nil
}

// What is the same in the header section of every record: a name, and for two of
// them its value, each after its length as a zigzag varint, which is twice it.
const (
	versionSection  = "\x1cce_specversion" + "\x06" + specVersion
	idSection       = "\x0ace_id"
	typeSection     = "\x0ece_type"
	subjectSection  = "\x14ce_subject"
	timeSection     = "\x0ece_time"
	sequenceSection = "\x16ce_sequence"
	contentSection  = "\x18content-type" + "\x20" + ContentType
)

// scan looks through n headers: whether they are complete, and whether one of
// them is the correlation id.
func scan(b []byte, n int64) (complete, correlated bool, err error) {
	for range n {
		var key []byte
		if key, b, err = counted(b); err != nil {
			return false, false, err
		}
		if _, b, err = counted(b); err != nil {
			return false, false, err
		}
		complete = complete || string(key) == versionHeader
		correlated = correlated || string(key) == correlationHeader
	}
	if n < 0 || len(b) != 0 {
		return false, false, errHeaders
	}
	return complete, correlated, nil
}

// TraceParent returns the traceparent in the header section of a record or of a
// row; nil when there is none, or the section is malformed.
func TraceParent(section []byte) []byte {
	n, b, err := varint(section)
	for ; n > 0 && err == nil; n-- {
		var key, value []byte
		if key, b, err = counted(b); err == nil {
			value, b, err = counted(b)
		}
		if err == nil && string(key) == traceHeader {
			return value
		}
	}
	return nil
}

// Headers returns the headers of the event's record.
func (s *Stored) Headers() ([]Header, error) {
	section, err := s.AppendHeaders(nil)
	if err != nil {
		return nil, err
	}
	headers, err := ParseHeaders(section)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", s.ID, err)
	}
	return headers, nil
}

func appendHeader(dst []byte, key string, value []byte) []byte {
	dst = binary.AppendVarint(dst, int64(len(key)))
	return appendValue(append(dst, key...), value)
}

func appendValue(dst, value []byte) []byte {
	dst = binary.AppendVarint(dst, int64(len(value)))
	return append(dst, value...)
}
