package catalog

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func tree() fs.FS { return os.DirFS("../..") }

func read(t *testing.T) Catalogue {
	t.Helper()
	c, err := Read(tree())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSaga_AsItIs_HasNoProblem(t *testing.T) {
	t.Parallel()
	for _, p := range read(t).Check() {
		t.Error(p)
	}
}

func TestGeneratedFiles_AreWhatTheSourceSays(t *testing.T) {
	t.Parallel()
	files, err := Files(tree())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if have, err := fs.ReadFile(tree(), name); err != nil || string(have) != string(want) {
			t.Errorf("%s is not what the source says (%v); run make generate", name, err)
		}
	}
	schemas, err := fs.Glob(tree(), contractDir+"/schema/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range schemas {
		if files[name] == nil {
			t.Errorf("%s belongs to no event; remove it", name)
		}
	}
}

// The reading of the source must see what the binaries do; here for the answer
// to the question that newcomers ask first.
func TestRead_StockAfterADeclinedPayment_IsReleasedByInventory(t *testing.T) {
	t.Parallel()
	want := Row{
		On: "payment.declined.v1", Emits: []string{"inventory.released.v1"},
		Handler: "ReleaseDeclined", File: "inventory-svc/internal/inventory/service.go",
	}
	found := false
	for _, s := range read(t).readers(want.On) {
		found = found || s.service == "inventory-svc" && s.Handler == want.Handler && s.File == want.File && slices.Equal(s.Emits, want.Emits)
	}
	if !found {
		t.Errorf("no %+v among %+v", want, read(t).readers(want.On))
	}
}

func TestRead_ReactionOnManyEvents_IsARowLikeAnyOther(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"order-svc/saga.go": {Data: []byte("package main\nfunc saga() { _ = []any{react.OnBatch(s.Confirm, contract.OrderConfirmed{})} }")},
		"order-svc/internal/order/o.go": {Data: []byte(
			"package order\nfunc (s *S) Confirm(batch []contract.PaymentAuthorized) {}\n")},
	}
	copyInto(t, files, contractDir)
	c, err := Read(files)
	if err != nil {
		t.Fatal(err)
	}
	row := c.Services[0].Rows[0]
	if row.On != "payment.authorized.v1" || row.Handler != "Confirm" || !slices.Equal(row.Emits, []string{"order.confirmed.v1"}) {
		t.Errorf("row %+v; want payment.authorized.v1, Confirm, order.confirmed.v1", row)
	}
}

func TestCheck_BrokenTables_AreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*Catalogue)
		want  string
	}{
		"failure nobody makes good": {
			func(c *Catalogue) { drop(c, "order-svc", "inventory.rejected.v1") },
			"inventory.rejected.v1 tells of a failure, and no reaction on it emits an event that takes something back",
		},
		"cancellation that leaves the stock": {
			func(c *Catalogue) { drop(c, "inventory-svc", "order.cancelled.v1") },
			"order.cancelled.v1 ends the saga, and no reaction on it emits inventory.released.v1",
		},
		"event nobody reads": {
			func(c *Catalogue) { drop(c, "order-svc", "inventory.shipped.v1") },
			"inventory.shipped.v1: no service reads it",
		},
		"event nobody emits": {
			func(c *Catalogue) { drop(c, "payment-svc", "order.confirmed.v1") },
			"payment.captured.v1: no service emits it",
		},
		"reader without a publisher": {
			func(c *Catalogue) { drop(c, "payment-svc", "order.confirmed.v1") },
			"order-svc reads payment.captured.v1, which no service emits",
		},
		"emission that the contract lacks": {
			func(c *Catalogue) { add(c, "order-svc", Row{Origin: "x", Emits: []string{"order.lost.v1"}}) },
			"order-svc emits order.lost.v1, which the contract does not have",
		},
		"two publishers": {
			func(c *Catalogue) { add(c, "payment-svc", Row{Origin: "x", Emits: []string{"order.confirmed.v1"}}) },
			"order.confirmed.v1: emitted by order-svc and payment-svc",
		},
		"topic with two publishers": {
			func(c *Catalogue) { add(c, "payment-svc", Row{Origin: "x", Emits: []string{"order.confirmed.v1"}}) },
			"topic orders.events.v1 is written by order-svc and payment-svc",
		},
		"somebody else's effect taken back": {
			func(c *Catalogue) { c.Events[index(c, "payment.voided.v1")].Undoes = "inventory.reserved.v1" },
			"payment.voided.v1 undoes inventory.reserved.v1, which inventory-svc emits",
		},
		"two reactions on one kind": {
			func(c *Catalogue) { add(c, "order-svc", Row{On: "payment.declined.v1"}) },
			"order-svc has two reactions on payment.declined.v1",
		},
		"saga without a deadline": {
			func(c *Catalogue) { drop(c, "order-svc", "deadline of an undecided order") },
			"order-svc starts a saga with order.placed.v1 and has no deadline",
		},
		"cycle without a deadline": {
			func(c *Catalogue) {
				drop(c, "order-svc", "deadline of an undecided order")
				add(c, "inventory-svc", Row{On: "payment.captured.v1", Emits: []string{"inventory.reserved.v1"}})
				drop(c, "payment-svc", "inventory.reserved.v1")
				add(c, "payment-svc", Row{On: "inventory.reserved.v1", Emits: []string{"payment.captured.v1"}})
			},
			"inventory.reserved.v1 → payment.captured.v1 → inventory.reserved.v1 goes round for ever",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := read(t)
			c.spoil(&broken)
			if problems := broken.Check(); !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("want %q among\n%s", c.want, strings.Join(problems, "\n"))
			}
		})
	}
}

func TestRead_TableThatCannotBeFollowed_SaysSo(t *testing.T) {
	t.Parallel()
	for row, want := range map[string]string{
		`react.On(func() {})`:                       "name the handler as a method",
		`react.On(s.Nowhere)`:                       "no method Nowhere",
		`react.On(s.Confirm, e)`:                    "must be written as contract.Event{}",
		`react.Origin(why, contract.OrderPlaced{})`: "plain string",
		``: "lists no reactions",
	} {
		files := fstest.MapFS{
			"order-svc/saga.go": {Data: []byte("package main\nfunc saga() { _ = []any{" + row + "} }")},
			"order-svc/internal/order/o.go": {Data: []byte(
				"package order\nfunc (s *S) Confirm(e contract.PaymentAuthorized) {}\n")},
		}
		copyInto(t, files, contractDir)
		if _, err := Read(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", row, err, want)
		}
	}
}

func TestCompare_BinaryThatSaysSomethingElse_IsNamed(t *testing.T) {
	t.Parallel()
	s := Service{Name: "x-svc", Rows: []Row{{On: "a.b.v1", Emits: []string{}}}}
	c := Catalogue{Events: []Event{{Kind: "a.c.v1", Failure: true, Undoes: "a.b.v1"}}}
	for described, want := range map[string]string{
		`{"service":"x-svc","reactions":[{"on":"a.b.v1","emits":[]}]}`:                                                               "",
		`{"service":"x-svc","reactions":[{"on":"a.c.v1","emits":[]}]}`:                                                               "reaction 1",
		`{"service":"x-svc","reactions":[{"on":"a.b.v1","emits":["x.y.v1"]}]}`:                                                       "reaction 1",
		`{"service":"x-svc","reactions":[{"on":"a.b.v1","emits":[]}],"events":[{"kind":"a.c.v1","failure":true,"undoes":"a.b.v1"}]}`: "",
		`{"service":"x-svc","reactions":[{"on":"a.b.v1","emits":[]}],"events":[{"kind":"a.c.v1","undoes":"a.b.v1"}]}`:                "the source has failure true",
		`{"service":"x-svc","reactions":[{"on":"a.b.v1","emits":[]}],"events":[{"kind":"a.c.v1","failure":true}]}`:                   `undoes "a.b.v1"`,
		`{"service":"x-svc","reactions":[]}`:                                                                                         "0 reactions; the source has 1",
		`{"service":"y-svc","reactions":[{"on":"a.b.v1","emits":[]}]}`:                                                               `"y-svc"`,
		`oops`: "-describe",
	} {
		err := c.compare(s, []byte(described))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", described, err, want)
		}
	}
}

func TestVariables_OwnAndSharedAndNested_AreListedOnce(t *testing.T) {
	t.Parallel()
	text, err := variableTable(tree())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"PAVANE_DATABASE", "PAVANE_REGISTRY_JOIN", "PAVANE_ORDER_DEADLINE", "PAVANE_SMTP_PASSWORD"} {
		if n := strings.Count(text, "`"+name+"`"); n != 1 {
			t.Errorf("%s is listed %d times", name, n)
		}
	}
}

func TestAsyncAPI_EveryReference_LeadsSomewhere(t *testing.T) {
	t.Parallel()
	data, err := read(t).AsyncAPI()
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	references := 0
	walk(document, func(ref string) {
		references++
		var at any = document
		for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			parent, _ := at.(map[string]any)
			at = parent[name]
		}
		if at == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	})
	if references == 0 {
		t.Error("the document has no references")
	}
	for _, e := range read(t).Events {
		if !strings.Contains(string(data), `.send.`+e.Kind+`"`) || !strings.Contains(string(data), `.receive.`+e.Kind+`"`) {
			t.Errorf("%s is not both sent and received", e.Kind)
		}
	}
}

func walk(v any, visit func(ref string)) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			visit(ref)
		}
		for _, inner := range v {
			walk(inner, visit)
		}
	case []any:
		for _, inner := range v {
			walk(inner, visit)
		}
	}
}

// drop takes a service's row on a kind or an origin away.
func drop(c *Catalogue, service, cause string) {
	for i := range c.Services {
		if c.Services[i].Name == service {
			c.Services[i].Rows = slices.DeleteFunc(c.Services[i].Rows, func(r Row) bool { return r.On == cause || r.Origin == cause })
		}
	}
}

func add(c *Catalogue, service string, r Row) {
	for i := range c.Services {
		if c.Services[i].Name == service {
			c.Services[i].Rows = append(c.Services[i].Rows, r)
		}
	}
}

func index(c *Catalogue, kind string) int {
	return slices.IndexFunc(c.Events, func(e Event) bool { return e.Kind == kind })
}

func copyInto(t *testing.T, files fstest.MapFS, dir string) {
	t.Helper()
	entries, err := fs.ReadDir(tree(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		data, err := fs.ReadFile(tree(), path.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[path.Join(dir, e.Name())] = &fstest.MapFile{Data: data}
	}
}
