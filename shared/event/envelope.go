package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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
	Time   time.Time // when it was appended, by the clock of its database; for people, never for ordering

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
	add(versionHeader, specVersion)
	add("ce_id", e.ID)
	add(sourceHeader, e.Source)
	add("ce_type", e.Kind)
	add("ce_subject", e.Key)
	add("ce_time", e.Time.UTC().Format(time.RFC3339Nano))
	add("ce_sequence", strconv.FormatInt(e.Sequence, 10))
	add(correlationHeader, e.CorrelationID)
	add(causationHeader, e.CausationID)
	add("content-type", ContentType)
	add(traceHeader, e.TraceParent)
	return headers
}

// maxAttribute bounds each attribute, in bytes. What a reaction emits carries
// some of them on, and must not outgrow a record by them.
const maxAttribute = 2000

// Check says why Decode, or the inbox of a reader, would refuse what is in the
// envelope; nil when they take it. Who writes an event asks before: in the log
// nobody can mend it.
func (e Envelope) Check() error {
	for _, a := range [...]struct{ name, value string }{
		{"id", e.ID},
		{"source", e.Source},
		{"kind", e.Kind},
		{"key", e.Key},
		{"correlation id", e.CorrelationID},
		{"causation id", e.CausationID},
		{"trace parent", e.TraceParent},
	} {
		if len(a.value) > maxAttribute || !utf8.ValidString(a.value) || strings.IndexByte(a.value, 0) >= 0 {
			return fmt.Errorf("%s, %d bytes, %.40q: want UTF-8 without NUL, %d bytes at most", a.name, len(a.value), a.value, maxAttribute)
		}
	}
	if n := len(e.Source) + len(e.Key); n > maxAttribute {
		return fmt.Errorf("source and key have %d bytes together: an inbox holds %d", n, maxAttribute)
	}
	_, _, err := SplitKind(e.Kind)
	return err
}

// Decode reads an envelope from a record and checks what the kit relies on: the
// required attributes, each at most once, as UTF-8 without NUL of a bearable
// length; a subject equal to the key, a sequence from 1 on.
func Decode(key []byte, headers []Header, value []byte) (Envelope, error) {
	e := Envelope{Data: value}
	a := attributes{e: &e}
	for _, h := range headers {
		field := a.field(h.Key)
		if field == nil {
			continue
		}
		if *field != "" {
			return Envelope{}, fmt.Errorf("header %s comes twice", h.Key)
		}
		if len(h.Value) > maxAttribute || !utf8.Valid(h.Value) || bytes.IndexByte(h.Value, 0) >= 0 {
			return Envelope{}, fmt.Errorf("header %s, %d bytes, %.40q: want UTF-8 without NUL, %d bytes at most", h.Key, len(h.Value), h.Value, maxAttribute)
		}
		*field = string(h.Value)
	}
	switch {
	case a.version != specVersion:
		return Envelope{}, fmt.Errorf("ce_specversion %q: want %q", a.version, specVersion)
	case e.ID == "" || e.Source == "" || e.Kind == "":
		return Envelope{}, fmt.Errorf("ce_id %q, ce_source %q, ce_type %q: all three are required", e.ID, e.Source, e.Kind)
	case a.contentType != ContentType:
		return Envelope{}, fmt.Errorf("content-type %q: want %q", a.contentType, ContentType)
	case e.Key == "" || e.Key != string(key):
		return Envelope{}, fmt.Errorf("ce_subject %q: want the record's key %.40q, not empty", e.Key, key)
	}
	var err error
	if e.Sequence, err = strconv.ParseInt(a.sequence, 10, 64); err != nil || e.Sequence < 1 {
		return Envelope{}, fmt.Errorf("ce_sequence %q: want a number from 1 on", a.sequence)
	}
	if a.time != "" {
		if e.Time, err = time.Parse(time.RFC3339Nano, a.time); err != nil {
			return Envelope{}, fmt.Errorf("ce_time %q: %w", a.time, err)
		}
		if year := e.Time.UTC().Year(); year < 1 || year > 9999 { // could not be written again
			return Envelope{}, fmt.Errorf("ce_time %q: want a year from 1 to 9999", a.time)
		}
	}
	if _, _, err = SplitKind(e.Kind); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// attributes are an envelope's as they are read, before they are checked.
type attributes struct {
	e                                    *Envelope
	version, contentType, sequence, time string
}

// field returns where the value of a header goes, nil for one that is not ours.
func (a *attributes) field(header string) *string {
	switch header {
	case versionHeader:
		return &a.version
	case "ce_id":
		return &a.e.ID
	case sourceHeader:
		return &a.e.Source
	case "ce_type":
		return &a.e.Kind
	case "ce_subject":
		return &a.e.Key
	case "ce_time":
		return &a.time
	case "ce_sequence":
		return &a.sequence
	case correlationHeader:
		return &a.e.CorrelationID
	case causationHeader:
		return &a.e.CausationID
	case "content-type":
		return &a.contentType
	case traceHeader:
		return &a.e.TraceParent
	}
	return nil
}

// AppendHeaders appends the header section of a Kafka v2 record (varint count,
// then each key and value after its varint length; KIP-98). The outbox stores
// headers in this form.
func AppendHeaders(dst []byte, headers []Header) []byte {
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for _, h := range headers {
		dst = appendHeader(dst, h.Key, h.Value)
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
