package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ContentType is the media type of every event's data.
const ContentType = "application/json"

const specVersion = "1.0"

// Header is one header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

// Envelope is an event as it travels: the CloudEvents attributes and the data.
type Envelope struct {
	ID     string    // unique for ever
	Source string    // who published it, "/order-svc"
	Kind   string    // CloudEvents type
	Key    string    // CloudEvents subject and Kafka record key
	Time   time.Time // when it was appended, by the clock of its writer; for people, never for ordering

	// Sequence is the event's place in the dense sequence of Source and Key,
	// from 1 on (extension "sequence").
	Sequence int64

	CorrelationID string // the saga; the order id in the demo
	CausationID   string // ID of the event whose handling appended this one; empty at the saga's start
	TraceParent   string // W3C trace context; may be empty

	Data []byte // JSON
}

// Headers returns the record headers of the binary content mode
// (cloudevents/spec, kafka-protocol-binding.md, 3.2).
func (e Envelope) Headers() []Header {
	headers := make([]Header, 0, 11)
	add := func(key, value string) {
		if value != "" {
			headers = append(headers, Header{Key: key, Value: []byte(value)})
		}
	}
	add("ce_specversion", specVersion)
	add("ce_id", e.ID)
	add("ce_source", e.Source)
	add("ce_type", e.Kind)
	add("ce_subject", e.Key)
	add("ce_time", e.Time.UTC().Format(time.RFC3339Nano))
	add("ce_sequence", strconv.FormatInt(e.Sequence, 10))
	add("ce_correlationid", e.CorrelationID)
	add("ce_causationid", e.CausationID)
	add("content-type", ContentType)
	add("traceparent", e.TraceParent)
	return headers
}

// Decode reads an envelope from a record and checks what the kit relies on:
// the required attributes, a subject equal to the key, a sequence from 1 on.
func Decode(key []byte, headers []Header, value []byte) (Envelope, error) {
	e := Envelope{Data: value}
	var version, contentType, sequence, at string
	fields := map[string]*string{
		"ce_specversion": &version, "ce_id": &e.ID, "ce_source": &e.Source, "ce_type": &e.Kind, "ce_subject": &e.Key, "ce_time": &at,
		"ce_sequence": &sequence, "ce_correlationid": &e.CorrelationID, "ce_causationid": &e.CausationID,
		"content-type": &contentType, "traceparent": &e.TraceParent,
	}
	for _, h := range headers {
		if field, ok := fields[h.Key]; ok {
			*field = string(h.Value)
		}
	}
	switch {
	case version != specVersion:
		return Envelope{}, fmt.Errorf("ce_specversion %q: want %q", version, specVersion)
	case e.ID == "" || e.Source == "" || e.Kind == "":
		return Envelope{}, fmt.Errorf("ce_id %q, ce_source %q, ce_type %q: all three are required", e.ID, e.Source, e.Kind)
	case contentType != ContentType:
		return Envelope{}, fmt.Errorf("content-type %q: want %q", contentType, ContentType)
	case e.Key == "" || e.Key != string(key):
		return Envelope{}, fmt.Errorf("ce_subject %q: want the record's key %q, not empty", e.Key, key)
	}
	var err error
	if e.Sequence, err = strconv.ParseInt(sequence, 10, 64); err != nil || e.Sequence < 1 {
		return Envelope{}, fmt.Errorf("ce_sequence %q: want a number from 1 on", sequence)
	}
	if at != "" {
		if e.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return Envelope{}, fmt.Errorf("ce_time %q: %w", at, err)
		}
	}
	if _, _, err = SplitKind(e.Kind); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// AppendHeaders appends the header section of a Kafka v2 record (varint count,
// then each key and value after its varint length; KIP-98). The outbox stores
// headers in this form, so the relay copies them without reading them.
func AppendHeaders(dst []byte, headers []Header) []byte {
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for _, h := range headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = binary.AppendVarint(dst, int64(len(h.Value)))
		dst = append(dst, h.Value...)
	}
	return dst
}

var errHeaders = errors.New("header section of a record is cut short or malformed")

// ParseHeaders reads what AppendHeaders wrote.
func ParseHeaders(b []byte) ([]Header, error) {
	n, b, err := varint(b)
	if err != nil || n < 0 || n > int64(len(b)) {
		return nil, errHeaders
	}
	headers := make([]Header, n)
	for i := range headers {
		var key []byte
		if key, b, err = counted(b); err != nil {
			return nil, err
		}
		headers[i].Key = string(key)
		if headers[i].Value, b, err = counted(b); err != nil {
			return nil, err
		}
	}
	if len(b) != 0 {
		return nil, errHeaders
	}
	return headers, nil
}

func varint(b []byte) (int64, []byte, error) {
	n, size := binary.Varint(b)
	if size <= 0 {
		return 0, nil, errHeaders
	}
	return n, b[size:], nil
}

// counted reads a length and that many bytes; the length -1 stands for null.
func counted(b []byte) (value, rest []byte, err error) {
	n, b, err := varint(b)
	if err != nil || n > int64(len(b)) || n < -1 {
		return nil, nil, errHeaders
	}
	if n == -1 {
		return nil, b, nil
	}
	return b[:n:n], b[n:], nil
}
