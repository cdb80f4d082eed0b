package event_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"pgregory.net/rapid"

	"pavane/shared/event"
)

var example = event.Envelope{
	ID: "0198f0c2-0000-7000-8000-000000000001", Source: "/order-svc", Kind: "order.placed.v1", Key: "o-1", Sequence: 1,
	Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), CorrelationID: "o-1", CausationID: "c-1",
	TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Data: []byte(`{"order_id":"o-1"}`),
}

func TestEnvelope_HeadersThenDecode_IsTheSame(t *testing.T) {
	t.Parallel()
	got, err := event.Decode([]byte(example.Key), example.Headers(), example.Data)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != example.ID || got.Source != example.Source || got.Kind != example.Kind || got.Key != example.Key ||
		got.Sequence != example.Sequence || !got.Time.Equal(example.Time) || got.CorrelationID != example.CorrelationID ||
		got.CausationID != example.CausationID || got.TraceParent != example.TraceParent || !bytes.Equal(got.Data, example.Data) {
		t.Errorf("decoded %+v\nwant    %+v", got, example)
	}
}

// The official SDK has no binding for our client, so the test maps the headers
// as the binding's text says: "ce_" plus the attribute's name.
func TestEnvelope_Headers_AreAcceptedByTheCloudEventsSDK(t *testing.T) {
	t.Parallel()
	e := cloudevents.New()
	for _, h := range example.Headers() {
		switch value := string(h.Value); h.Key {
		case "ce_specversion":
			e.SetSpecVersion(value)
		case "ce_id":
			e.SetID(value)
		case "ce_source":
			e.SetSource(value)
		case "ce_type":
			e.SetType(value)
		case "ce_subject":
			e.SetSubject(value)
		case "ce_time":
			at, err := time.Parse(time.RFC3339, value)
			if err != nil {
				t.Fatal(err)
			}
			e.SetTime(at)
		case "content-type":
			if err := e.SetData(value, []byte(example.Data)); err != nil {
				t.Fatal(err)
			}
		case "traceparent":
		default:
			e.SetExtension(h.Key[len("ce_"):], value)
		}
	}
	if err := e.Validate(); err != nil {
		t.Errorf("the CloudEvents SDK refuses the event: %v", err)
	}
}

func TestDecode_WhatTheKitReliesOn_IsDemanded(t *testing.T) {
	t.Parallel()
	for header, bad := range map[string]string{
		"ce_specversion": "0.3", "ce_id": "", "ce_source": "", "ce_type": "order.placed", "ce_subject": "o-2",
		"ce_sequence": "0", "content-type": "text/plain", "ce_time": "yesterday",
	} {
		headers := example.Headers()
		for i := range headers {
			if headers[i].Key == header {
				headers[i].Value = []byte(bad)
			}
		}
		if _, err := event.Decode([]byte(example.Key), headers, example.Data); err == nil {
			t.Errorf("%s = %q is accepted", header, bad)
		}
	}
}

// rowOf is the event as the outbox holds it.
func rowOf(e event.Envelope) event.Stored {
	return event.Stored{
		ID: []byte(e.ID), Kind: []byte(e.Kind), Key: []byte(e.Key), Sequence: e.Sequence, Time: e.Time,
		Extra: event.AppendHeaders(nil, e.Extra()),
	}
}

func sorted(headers []event.Header) []string {
	var lines []string
	for _, h := range headers {
		lines = append(lines, h.Key+"="+string(h.Value))
	}
	slices.Sort(lines)
	return lines
}

func TestStored_Headers_AreThoseOfTheEnvelope(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := example
		e.Key = rapid.StringN(1, 20, 60).Draw(t, "key")
		e.ID = rapid.StringN(1, 20, 60).Draw(t, "id")
		e.Sequence = rapid.Int64Min(1).Draw(t, "sequence")
		e.Time = time.UnixMicro(rapid.Int64Range(-7e16, 3e17).Draw(t, "time")).UTC()
		e.CorrelationID = rapid.SampledFrom([]string{e.Key, "saga", "ce_correlationid"}).Draw(t, "correlation")
		e.CausationID = rapid.SampledFrom([]string{"", "cause", "ce_correlationid"}).Draw(t, "cause")
		e.TraceParent = rapid.SampledFrom([]string{"", example.TraceParent}).Draw(t, "trace")
		row := rowOf(e)
		got, err := row.Headers()
		if err != nil || !slices.Equal(sorted(got), sorted(e.Headers())) {
			t.Fatalf("the row's headers are\n%q, %v\nwant\n%q", sorted(got), err, sorted(e.Headers()))
		}
	})
}

func TestStored_CompleteSection_IsTakenAsItIs(t *testing.T) {
	t.Parallel()
	row := rowOf(example)
	row.Extra = event.AppendHeaders(nil, append(example.Headers(), event.Header{Key: "x-tenant", Value: []byte("7")}))
	row.Key, row.Sequence = []byte("another"), 9
	got, err := row.AppendHeaders([]byte("before"))
	if err != nil || string(got) != "before"+string(row.Extra) {
		t.Errorf("got %q, %v; want it unchanged behind what was there", got, err)
	}
}

func TestStored_BrokenSection_IsAnError(t *testing.T) {
	t.Parallel()
	for _, bad := range [][]byte{nil, {2}, {2, 2, 'a'}, {1}, append(event.AppendHeaders(nil, example.Extra()), 0)} {
		row := rowOf(example)
		row.Extra = bad
		if got, err := row.AppendHeaders(nil); err == nil {
			t.Errorf("% x gives % x", bad, got)
		}
	}
}

func BenchmarkStored_AppendHeaders(b *testing.B) {
	row, dst := rowOf(example), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = row.AppendHeaders(dst[:0])
	}
}

func TestAppendHeaders_IsTheHeaderSectionOfARecord(t *testing.T) {
	t.Parallel()
	got := event.AppendHeaders(nil, []event.Header{{Key: "a", Value: []byte("xy")}, {Key: "b"}})
	want := []byte{4, 2, 'a', 4, 'x', 'y', 2, 'b', 0} // zigzag varints: 2 headers, lengths 1, 2, 1, 0
	if !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestParseHeaders_ReadsWhatAppendHeadersWrote(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		headers := rapid.SliceOf(rapid.Custom(func(t *rapid.T) event.Header {
			return event.Header{Key: rapid.String().Draw(t, "key"), Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")}
		})).Draw(t, "headers")
		got, err := event.ParseHeaders(event.AppendHeaders(nil, headers))
		if err != nil || len(got) != len(headers) {
			t.Fatalf("%d headers, %v; want %d", len(got), err, len(headers))
		}
		for i := range got {
			if got[i].Key != headers[i].Key || !bytes.Equal(got[i].Value, headers[i].Value) {
				t.Fatalf("header %d is %v, want %v", i, got[i], headers[i])
			}
		}
	})
}

func FuzzParseHeaders(f *testing.F) {
	f.Add(event.AppendHeaders(nil, example.Headers()))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		headers, err := event.ParseHeaders(b)
		if err != nil {
			return
		}
		again, err := event.ParseHeaders(event.AppendHeaders(nil, headers))
		if err != nil || len(again) != len(headers) {
			t.Fatalf("parsed headers do not survive a second trip: %v", err)
		}
	})
}

func TestSplitKind(t *testing.T) {
	t.Parallel()
	name, major, err := event.SplitKind("order.placed.v12")
	if name != "order.placed" || major != 12 || err != nil {
		t.Errorf("got %q, %d, %v", name, major, err)
	}
	for _, bad := range []string{"", "order", ".v1", "order.placed.v0", "order.placed.vx", "order.placed.v"} {
		if _, _, err := event.SplitKind(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestTopics_UnknownKind_IsAnError(t *testing.T) {
	t.Parallel()
	topics := event.Topics{"order": "orders.events.v1"}
	if topic, err := topics.Of("order.placed.v1"); topic != "orders.events.v1" || err != nil {
		t.Errorf("got %q, %v", topic, err)
	}
	if _, err := topics.Of("parcel.lost.v1"); err == nil {
		t.Error("a kind without topic is routed")
	}
}
