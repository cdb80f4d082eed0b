package event_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pavane/shared/event"
)

// section is the header section that a test sends through a decoder.
func section(headers ...event.Header) []byte { return event.AppendHeaders(nil, headers) }

func FuzzDecode(f *testing.F) {
	f.Add([]byte(example.Key), section(example.Headers()...), example.Data)
	f.Add([]byte("k"), section(event.Header{Key: "ce_specversion", Value: []byte("1.0")}), []byte("{}"))
	late := example.Headers()
	for i := range late {
		if late[i].Key == "ce_time" {
			late[i].Value = []byte("9999-12-31T23:59:59-23:59") // a year of five digits in UTC
		}
	}
	f.Add([]byte(example.Key), section(late...), example.Data)
	f.Fuzz(func(t *testing.T, key, headers, value []byte) {
		parsed, err := event.ParseHeaders(headers)
		if err != nil {
			return
		}
		e, err := event.Decode(key, parsed, value)
		if err != nil {
			return
		}
		if e.Key != string(key) || e.Sequence < 1 || !bytes.Equal(e.Data, value) {
			t.Fatalf("accepted although it breaks what is relied on: %+v", e)
		}
		e.Time = e.Time.UTC()
		again, err := event.Decode(key, e.Headers(), value)
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("what was accepted does not survive being sent on:\n%+v\n%+v\n%v", e, again, err)
		}
		if _, err := e.Time.MarshalJSON(); err != nil {
			t.Fatalf("an accepted time cannot be shown: %v", err)
		}
	})
}

func FuzzStored_AppendHeaders(f *testing.F) {
	f.Add([]byte(example.ID), []byte(example.Kind), []byte(example.Key), int64(7), int64(1_700_000_000_000_000), section(example.Extra()...))
	f.Add([]byte("i"), []byte("a.b.v1"), []byte("k"), int64(1), int64(0), section(example.Headers()...))
	f.Fuzz(func(t *testing.T, id, kind, key []byte, sequence, micros int64, extra []byte) {
		s := event.Stored{ID: id, Kind: kind, Key: key, Sequence: sequence, Time: time.UnixMicro(micros), Extra: extra}
		first, err := s.AppendHeaders([]byte("before"))
		if err != nil {
			return
		}
		rest, ok := bytes.CutPrefix(first, []byte("before"))
		if !ok || len(rest) > len(extra)+len(id)+len(kind)+2*len(key)+400 {
			t.Fatalf("%d bytes of headers from %d of extra", len(rest), len(extra))
		}
		if _, err := event.ParseHeaders(rest); err != nil {
			t.Fatalf("the section that goes to Kafka cannot be read: %v", err)
		}
		if again, err := s.AppendHeaders(nil); err != nil || !bytes.Equal(again, rest) {
			t.Fatalf("the same event gives other bytes: %v", err)
		}
	})
}

func FuzzSplitKind(f *testing.F) {
	for _, kind := range []string{"order.placed.v1", "a.v12", "v1", ".v1", "a.v"} {
		f.Add(kind)
	}
	f.Fuzz(func(t *testing.T, kind string) {
		name, major, err := event.SplitKind(kind)
		if err == nil && (name == "" || major < 1 || fmt.Sprintf("%s.v%d", name, major) != kind) {
			t.Fatalf("%q is taken for version %d of %q, which is another name", kind, major, name)
		}
	})
}
