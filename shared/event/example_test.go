package event_test

import (
	"context"
	"fmt"

	"pavane/shared/event"
)

// ParcelSent says that a parcel left the house.
type ParcelSent struct {
	ParcelID string `json:"parcel_id"`
}

func (ParcelSent) Kind() string  { return "parcel.sent.v1" }
func (e ParcelSent) Key() string { return e.ParcelID }

// The version of the parcel's row was 4 before this change.
func ExampleNumber() {
	for _, n := range event.Number(5, ParcelSent{ParcelID: "p-1"}, ParcelSent{ParcelID: "p-1"}) {
		fmt.Println(n.Sequence, n.Event.Kind(), n.Event.Key())
	}
	// Output:
	// 5 parcel.sent.v1 p-1
	// 6 parcel.sent.v1 p-1
}

func ExampleDecode() {
	sent := event.Envelope{
		ID: "0198f0c2-0000-7000-8000-000000000001", Source: "/parcel-svc", Kind: "parcel.sent.v1", Key: "p-1", Sequence: 5,
		Data: []byte(`{"parcel_id":"p-1"}`),
	}
	received, err := event.Decode([]byte(sent.Key), sent.Headers(), sent.Data)
	fmt.Println(received.Kind, received.Sequence, err)

	_, err = event.Decode([]byte("p-2"), sent.Headers(), sent.Data)
	fmt.Println(err)
	// Output:
	// parcel.sent.v1 5 <nil>
	// ce_subject "p-1": want the record's key "p-2", not empty
}

func ExampleAppendHeaders() {
	stored := event.AppendHeaders(nil, []event.Header{{Key: "ce_type", Value: []byte("parcel.sent.v1")}})
	headers, err := event.ParseHeaders(stored)
	fmt.Printf("%d bytes, %s %s, %v\n", len(stored), headers[0].Key, headers[0].Value, err)
	// Output: 24 bytes, ce_type parcel.sent.v1, <nil>
}

func ExampleTopics_Of() {
	topics := event.Topics{"parcel": "parcels.events.v1"}
	fmt.Println(topics.Of("parcel.sent.v1"))
	fmt.Println(topics.Of("tea.made.v1"))
	// Output:
	// parcels.events.v1 <nil>
	//  event kind "tea.made.v1": no topic for "tea"; add it to the topics of the contract
}

func ExampleSplitKind() {
	fmt.Println(event.SplitKind("parcel.sent.v2"))
	// Output: parcel.sent 2 <nil>
}

// A handler that asks a carrier for something notes the cause beside the request;
// whoever hears the answer, days later, tells of it with that cause.
func ExampleCauseOf() {
	ask := func(ctx context.Context) (noted string) { return event.CauseOf(ctx).ID }
	ctx := event.WithCause(context.Background(), &event.Envelope{ID: "e-1"}) // as the kit does
	answer := event.Number(2, ParcelSent{ParcelID: "p-1"})
	answer[0].Cause = &event.Envelope{ID: ask(ctx)}
	fmt.Println(answer[0].Event.Kind(), "because of", answer[0].Cause.ID)
	// Output: parcel.sent.v1 because of e-1
}
