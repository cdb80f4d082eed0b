package audit

import (
	"slices"

	"pavane/shared/broker"
	"pavane/shared/event"
)

// InjectedHeader marks a record that was put into the log to break something. No
// service sets it or looks at it.
const InjectedHeader = "pavane_injected"

// Injected tells whether a record bears the mark.
func Injected(headers []event.Header) bool {
	return slices.ContainsFunc(headers, func(h event.Header) bool { return h.Key == InjectedHeader })
}

// Injection counts what was set aside: it is no difference, because somebody
// wanted it.
type Injection struct {
	Records int
	Parked  int // records of keys that only injected records have
	keys    map[string]bool
}

func (d *Data) setAside(r broker.Record) {
	if !d.share.has(string(r.Key)) {
		return
	}
	if d.Injected.keys == nil {
		d.Injected.keys = map[string]bool{}
	}
	d.Injected.Records++
	d.Injected.keys[string(r.Key)] = true
}

// dropInjected sets aside what is parked of keys that no record of a service has.
func (d *Data) dropInjected() {
	for _, r := range d.Log {
		delete(d.Injected.keys, r.Stream.Key)
	}
	for i, s := range d.Services {
		d.Services[i].Parked = slices.DeleteFunc(s.Parked, func(p Parked) bool {
			if d.Injected.keys[p.Stream.Key] {
				d.Injected.Parked++
			}
			return d.Injected.keys[p.Stream.Key]
		})
	}
}
