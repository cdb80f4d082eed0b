package chaos

import (
	"strings"
	"sync"
	"testing"

	"pavane/cmd/pavane/internal/fault"
	"pavane/internal/faultproxy"
)

// idle is a system whose services ask for nothing.
type idle struct {
	fault.Driver
	proxy *faultproxy.Proxy
}

func (d idle) Way(string, string) (*faultproxy.Proxy, error) { return d.proxy, nil }

func TestStrike_NothingCameToBeStruck_IsMissedAndNotBroken(t *testing.T) {
	t.Parallel()
	p, err := faultproxy.Start(faultproxy.Config{Protocol: faultproxy.Kafka, Target: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s := &Struck{Planned: Planned{Spec: fault.Spec{Kind: "answers", Service: "order-svc", Server: "broker"}}}
	r := &run{
		Config: Config{Driver: idle{proxy: p}, Progress: func(string, ...any) {}},
		book:   newBook(), struck: []*Struck{s}, taken: map[string]*sync.Mutex{},
	}
	r.book.notePlaced(1, "o-1")
	r.strike(t.Context(), s)
	if !strings.Contains(s.Missed(), "no request came") || s.Landed() {
		t.Errorf("missed: %q, landed %t", s.Missed(), s.Landed())
	}
	if err := r.broken(); err != nil {
		t.Error(err)
	}
}
