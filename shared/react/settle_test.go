package react

import (
	"testing"
	"time"

	"pavane/shared/inbox"
)

func TestCommitted_RecordsThatOnlyWait_AskForNoLookAtAllThatIsParked(t *testing.T) {
	t.Parallel()
	for _, cause := range []inbox.Cause{inbox.Follows, inbox.Fault} {
		later := time.Now().Add(time.Hour)
		g := &generation{c: &Consumer{metrics: newMeters(nil, nil, nil)}, settleAt: later}
		for range 1000 {
			g.committed(nil, &pass{parked: []inbox.Parked{{Cause: cause}}})
		}
		if !g.settleAt.Equal(later) {
			t.Errorf("a record parked as %s has the parked ones looked through", cause)
		}
	}
	g := &generation{c: &Consumer{metrics: newMeters(nil, nil, nil)}, settleAt: time.Now().Add(time.Hour)}
	if g.committed(nil, &pass{settle: true}); !g.settleAt.IsZero() {
		t.Error("a record that made others due does not have them looked for")
	}
}
