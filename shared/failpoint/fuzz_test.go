package failpoint

import (
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, spec := range []string{"", "relay.after_ack=kill@2", "a=error;b=5ms@3", "=exit", "a=kill@0", ";;a=1h"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := Parse(spec)
		if err != nil {
			if !strings.Contains(err.Error(), "failpoint") {
				t.Fatalf("the error does not say what it is about: %v", err)
			}
			return
		}
		wanted, have := strings.Count(spec, "="), 0
		for point, actions := range s.actions {
			for _, a := range actions {
				if have++; a.at < 1 || (a.do == nil) != a.kill {
					t.Fatalf("%q does nothing at hit %d", point, a.at)
				}
			}
		}
		if have > wanted || (wanted > 0) != (have > 0) {
			t.Fatalf("%d actions from %d", have, wanted)
		}
	})
}
