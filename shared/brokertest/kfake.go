package brokertest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Fake is a broker inside the test process whose hooks can watch, delay, fail and swallow single requests. It is never
// a real Kafka, whatever PAVANE_KAFKA says: use it only for tests that need a hook.
type Fake struct {
	// Cluster offers all hooks: ControlKey, Fault and so on.
	*kfake.Cluster
	addr string
}

// StartFake returns a broker of its own with hooks, which ends with the test.
func StartFake(t testing.TB) *Fake {
	t.Helper()
	b := start(t)
	return &Fake{Cluster: b.Cluster(), addr: b.Addr()}
}

// Addr returns the broker's host:port.
func (f *Fake) Addr() string { return f.addr }
