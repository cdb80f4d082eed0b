package gateway

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"pavane/shared/broker"
)

func FuzzPrefer(f *testing.F) {
	for _, header := range []string{"wait=5", "respond-async, wait=10; x=y", `Wait="30"`, "wait=-1", "wait=99999999999", "wait"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got := waitOf([]string{header})
		if got < 0 || got > maxWait || got%time.Second != 0 {
			t.Fatalf("%q waits %v", header, got)
		}
		if more := waitOf([]string{"return=minimal", header}); more != got {
			t.Fatalf("%q waits %v, after another header %v", header, got, more)
		}
	})
}

func FuzzIfNoneMatch(f *testing.F) {
	for _, header := range []string{`"1.f"`, `W/"1.f"`, `*`, `"x", "1.f"`, `"1.e"`, `1.f`, ``} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		const tag = `"1.f"`
		if matches([]string{header}, tag) && !strings.Contains(header, tag) && !strings.Contains(header, "*") {
			t.Fatalf("%q names %s", header, tag)
		}
		if !matches([]string{header, "W/" + tag}, tag) {
			t.Fatalf("after %q the tag is not found", header)
		}
	})
}

func FuzzLastEventID(f *testing.F) {
	firsts := []broker.Position{{Topic: "a", Offset: 5}, {Topic: "b", Partition: 1}}
	ends := []broker.Position{{Topic: "a", Offset: 300}, {Topic: "b", Partition: 1, Offset: 7}}
	f.Add(writeCursor(ends))
	f.Add(writeCursor(firsts))
	f.Add("")
	f.Add("%order-svc=1&%2Fpayment-svc=9223372036854775808")
	f.Fuzz(func(t *testing.T, cursor string) {
		at, err := readCursor(cursor, firsts, ends)
		if err == nil {
			for i := range at {
				if at[i].Topic != ends[i].Topic || at[i].Offset < firsts[i].Offset || at[i].Offset > ends[i].Offset {
					t.Fatalf("%q leads to %v", cursor, at[i])
				}
			}
			if again, err := readCursor(writeCursor(at), firsts, ends); err != nil || !reflect.DeepEqual(again, at) {
				t.Fatalf("%v, written again, is %v, %v", at, again, err)
			}
		}
		s := readSeen(cursor)
		if again := readSeen(s.cursor()); !reflect.DeepEqual(again, s) {
			t.Fatalf("%v, written again, is %v", s, again)
		}
	})
}

// FuzzStream writes what came from outside as server-sent events: nobody may
// put a field or an event of his own between them.
func FuzzStream(f *testing.F) {
	f.Add("order.placed.v1", "a comment")
	f.Add("x\ndata: forged\n\n", "x\r\rdata: forged")
	f.Fuzz(func(t *testing.T, kind, text string) {
		out := httptest.NewRecorder()
		s := &stream{w: out, control: http.NewResponseController(out)}
		if err := s.event("1", kind, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := s.comment(text); err != nil {
			t.Fatal(err)
		}
		lines := strings.FieldsFunc(out.Body.String(), func(r rune) bool { return r == '\n' || r == '\r' })
		if len(lines) != 4 || lines[0] != "id: 1" || !strings.HasPrefix(lines[1], "event: ") || lines[2] != "data: {}" || !strings.HasPrefix(lines[3], ": ") {
			t.Fatalf("%q", lines)
		}
	})
}
