package api

import (
	"strings"
	"testing"
)

func FuzzIdempotencyKey(f *testing.F) {
	for _, header := range []string{"", "token", `"a"`, `"a\"b"`, `"a\\"`, `"`, `""`, `"a"b`, `"\x"`} {
		f.Add(header)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, header string) {
		key, err := idempotencyKey(header)
		if err != nil {
			return
		}
		if len(key) > len(header) || (key == "") != (header == "") {
			t.Fatalf("%q gives the key %q", header, key)
		}
		if key == "" {
			return
		}
		if again, err := idempotencyKey(`"` + quote.Replace(key) + `"`); err != nil || again != key {
			t.Fatalf("%q in quotes is %q, %v", key, again, err)
		}
	})
}
