package relay

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzJournal reads what the journal keeps as JSON of the pieces of a chunk.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"t/0":{"sizes":[3,4],"offset":7,"size":2}}`))
	f.Add([]byte(`{"t/0":{"sizes":[],"offset":-1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var read map[string]progress
		if json.Unmarshal(text, &read) != nil {
			return
		}
		written, err := json.Marshal(read)
		if err != nil {
			t.Fatal(err)
		}
		var again map[string]progress
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("%s cannot be read again: %v", written, err)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(written) {
			t.Fatalf("%s becomes %s, %v", written, twice, err)
		}
	})
}

// FuzzDescription reads the first row of a read, which describes the others.
func FuzzDescription(f *testing.F) {
	f.Add([]byte(`{"snapshot":"1:2:","last_id":3,"head":4,"stamp":5,"incarnation":"x","counts":{"t/0":1},"progress":{"t/0":{"size":1}}}`))
	f.Add([]byte(`{"counts":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second rowSet
		err := (&filler{found: &first, topic: text}).describe()
		if again := (&filler{found: &second, topic: text}).describe(); (err == nil) != (again == nil) || err == nil && !reflect.DeepEqual(first, second) {
			t.Fatalf("the same description is understood twice in two ways: %v, %v", err, again)
		}
		if err == nil && (first.target.snapshot == "") != (second.target.snapshot == "") {
			t.Fatal("the snapshot is lost")
		}
		if (&filler{found: &second, topic: text, id: 1}).describe() == nil {
			t.Fatal("an event's row is taken for the description")
		}
	})
}
