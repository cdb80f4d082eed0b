package registry

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func FuzzParseKey(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		if err != nil {
			return
		}
		if again, err := ParseKey(hex.EncodeToString(key)); !validKey(key) || err != nil || !bytes.Equal(again, key) {
			t.Fatalf("a key of %d bytes is accepted, and its hex is %d bytes, %v", len(key), len(again), err)
		}
	})
}
