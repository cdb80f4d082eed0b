package chaos

import (
	"strings"
	"testing"
)

func FuzzCounters(f *testing.F) {
	f.Add([]byte("# HELP x\npavane_a_total 5\npavane_b_total{x=\"y\"} 7\npavane_c 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for name := range parse(text) {
			if !strings.HasPrefix(name, "pavane_") || !strings.HasSuffix(name, "_total") || strings.Contains(name, " ") {
				t.Fatalf("%q is no counter", name)
			}
		}
	})
}
