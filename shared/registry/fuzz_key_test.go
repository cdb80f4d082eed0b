package registry

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

func FuzzParseKeys(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=, 00112233445566778899aabbccddeeff")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseKeys(text)
		if err != nil {
			return
		}
		var written []string
		for _, key := range keys {
			if !validKey(key) {
				t.Fatalf("a key of %d bytes is accepted", len(key))
			}
			written = append(written, hex.EncodeToString(key))
		}
		if again, err := ParseKeys(strings.Join(written, ",")); err != nil || !slices.EqualFunc(again, keys, bytes.Equal) {
			t.Fatalf("%d keys as hex are %d keys, %v", len(keys), len(again), err)
		}
	})
}

func FuzzParseServiceKeys(f *testing.F) {
	f.Add("order-svc=MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseServiceKeys(text)
		if err != nil {
			return
		}
		for name, of := range keys {
			if checkService(name) != nil || len(of) == 0 {
				t.Fatalf("service %q with %d keys is accepted", name, len(of))
			}
		}
	})
}
