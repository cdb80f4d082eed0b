package contract_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pavane/shared/contract"
)

// FuzzEvents sends any data through every event.
func FuzzEvents(f *testing.F) {
	goldens, err := filepath.Glob("testdata/*.json")
	if err != nil || len(goldens) == 0 {
		f.Fatalf("no goldens: %v", err)
	}
	for _, golden := range goldens {
		data, err := os.ReadFile(golden)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range contract.All() {
			e := reflect.New(reflect.TypeOf(kind))
			if json.Unmarshal(data, e.Interface()) != nil {
				continue
			}
			text, err := json.Marshal(e.Interface())
			if err != nil {
				t.Fatalf("%s: what was read cannot be written: %v", kind.Kind(), err)
			}
			again := reflect.New(reflect.TypeOf(kind))
			if err := json.Unmarshal(text, again.Interface()); err != nil {
				t.Fatalf("%s: what was written cannot be read: %v", kind.Kind(), err)
			}
			if twice, err := json.Marshal(again.Interface()); err != nil || string(twice) != string(text) {
				t.Fatalf("%s changes on its way:\n%s\n%s\n%v", kind.Kind(), text, twice, err)
			}
		}
	})
}
