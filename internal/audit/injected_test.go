package audit

import (
	"testing"

	"pavane/shared/broker"
	"pavane/shared/event"
)

func TestInjected_MarkedRecords_AreSetAsideWithWhatIsParkedOfTheirKeysOnly(t *testing.T) {
	t.Parallel()
	d := sound()
	marked := []event.Header{{Key: InjectedHeader, Value: []byte("1")}}
	if !Injected(marked) || Injected([]event.Header{{Key: "ce_id"}}) {
		t.Fatal("the mark is not told from other headers")
	}
	d.setAside(broker.Record{Key: []byte("chaos-1"), Headers: marked})
	d.setAside(broker.Record{Key: []byte("yes"), Headers: marked}) // a copy of a service's record
	d.Services[1].Parked = []Parked{{Stream: Stream{"/order-svc", "chaos-1"}}, {Stream: Stream{"/order-svc", "yes"}}}
	d.dropInjected()
	if d.Injected.Records != 2 || d.Injected.Parked != 1 {
		t.Errorf("%d records and %d parked set aside, want 2 and 1", d.Injected.Records, d.Injected.Parked)
	}
	if p := d.Services[1].Parked; len(p) != 1 || p[0].Stream.Key != "yes" {
		t.Errorf("parked %v; want the order's key, which is a difference", p)
	}
}
