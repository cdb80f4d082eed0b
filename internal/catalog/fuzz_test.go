package catalog

import (
	"strings"
	"testing"
	"testing/fstest"
)

func FuzzMachine(f *testing.F) {
	f.Add([]byte(`{"states":[{"state":"waiting placed","rows":[{"on":"a","to":"done x","emits":"b.c.v1"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := Service{Name: "x-svc"}
		machine, err := s.machine(fstest.MapFS{"x-svc/internal/x/testdata/machine.json": {Data: text}})
		if err != nil {
			return
		}
		for i, row := range machine {
			if row.From == row.To || strings.Contains(row.From+row.To, " ") {
				t.Fatalf("%+v is no transition", row)
			}
			for _, other := range machine[:i] {
				if other == row {
					t.Fatalf("%+v is there twice", row)
				}
			}
		}
	})
}

func FuzzDescribed(f *testing.F) {
	f.Add([]byte(`{"service":"x-svc","reactions":[{"on":"a.b.v1","emits":["c.d.v1"]}]}`))
	f.Add([]byte(`{"service":"x-svc","reactions":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := Service{Name: "x-svc", Rows: []Row{{On: "a.b.v1", Emits: []string{"c.d.v1"}}}}
		if (Catalogue{}).compare(s, text) == nil && !strings.Contains(string(text), "v1") && !strings.Contains(string(text), `\u`) {
			t.Fatalf("%q is taken for the service's table", text)
		}
	})
}
