package contract_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"pavane/shared/contract"
	"pavane/shared/event"
)

const orderID = "0198f0c2-0000-7000-8000-000000000001"

// examples returns one event of each kind with every field set. Its encoding is
// the golden testdata/<kind>.json. When a field is added, set it here and write
// the new form into testdata/<kind>.<date>.json; the older files stay as they are.
func examples() []event.Event {
	total := contract.Money{Amount: 4300, Currency: "EUR"}
	return []event.Event{
		contract.OrderPlaced{
			OrderID: orderID, CustomerID: "c-ada", Email: "ada@example.com",
			Items: []contract.Item{{SKU: "tea", Quantity: 2, UnitPrice: 1250}, {SKU: "cup", Quantity: 1, UnitPrice: 1800}},
			Total: total, PaymentMethod: "card", CardToken: "tok_ok",
		},
		contract.OrderConfirmed{OrderID: orderID, CustomerID: "c-ada", Email: "ada@example.com", Total: total},
		contract.OrderCancelled{
			OrderID: orderID, CustomerID: "c-ada", Email: "ada@example.com",
			Reason: "payment_declined", Detail: "the wallet holds 3.00 EUR, the order costs 43.00 EUR",
		},
		contract.InventoryReserved{OrderID: orderID},
		contract.InventoryRejected{OrderID: orderID, Reason: "tea: 2 wanted, 1 available"},
		contract.InventoryShipped{OrderID: orderID},
		contract.InventoryReleased{OrderID: orderID},
		contract.PaymentAuthorized{OrderID: orderID, Amount: total},
		contract.PaymentDeclined{OrderID: orderID, Reason: "the wallet holds 3.00 EUR, the order costs 43.00 EUR"},
		contract.PaymentCaptured{OrderID: orderID, Amount: total},
		contract.PaymentVoided{OrderID: orderID, Amount: total},
	}
}

func TestExamples_HaveEveryEventWithEveryFieldSet(t *testing.T) {
	t.Parallel()
	var have, want []string
	for _, e := range examples() {
		have = append(have, e.Kind())
		v := reflect.ValueOf(e)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s: the example leaves %s empty; set it", e.Kind(), v.Type().Field(i).Name)
			}
		}
	}
	for _, e := range contract.All() {
		want = append(want, e.Kind())
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("examples of %v\nevents      %v", have, want)
	}
}

func TestEvents_TodaysForm_IsTheNewestGolden(t *testing.T) {
	t.Parallel()
	for _, e := range examples() {
		files := goldens(t, e.Kind())
		if len(files) == 0 {
			t.Errorf("%s has no golden: write testdata/%s.json with\n%s", e.Kind(), e.Kind(), encode(t, e))
			continue
		}
		newest := files[len(files)-1]
		if got := encode(t, e); !bytes.Equal(got, newest.data) {
			t.Errorf("%s is written as\n%s%s holds\n%sA golden is never edited: add a file %s.<date>.json when a field was added, else take the change back",
				e.Kind(), got, newest.path, newest.data, e.Kind())
		}
	}
}

func TestEvents_EveryGoldenEverWritten_DecodesWithoutLoss(t *testing.T) {
	t.Parallel()
	for _, e := range contract.All() {
		for _, g := range goldens(t, e.Kind()) {
			into := reflect.New(reflect.TypeOf(e))
			d := json.NewDecoder(bytes.NewReader(g.data))
			d.DisallowUnknownFields()
			if err := d.Decode(into.Interface()); err != nil {
				t.Errorf("%s no longer decodes: %v; fields are only ever added", g.path, err)
				continue
			}
			var was, is map[string]any
			must(t, json.Unmarshal(g.data, &was))
			must(t, json.Unmarshal(encode(t, into.Interface()), &is))
			for field, value := range was {
				if !reflect.DeepEqual(is[field], value) {
					t.Errorf("%s: %s is %v today, was %v", g.path, field, is[field], value)
				}
			}
			if decoded, ok := into.Elem().Interface().(event.Event); !ok || decoded.Key() != orderID {
				t.Errorf("%s: the key of the decoded event is not the order id", g.path)
			}
		}
	}
}

func TestEvents_EveryGolden_IsValidUnderItsSchema(t *testing.T) {
	t.Parallel()
	for _, e := range contract.All() {
		schema := compile(t, e.Kind())
		for _, g := range goldens(t, e.Kind()) {
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(g.data))
			must(t, err)
			if err := schema.Validate(value); err != nil {
				t.Errorf("%s: %v", g.path, err)
			}
			for field := range value.(map[string]any) {
				if _, ok := schema.Properties[field]; !ok {
					t.Errorf("%s: the schema does not describe %q; run make generate", g.path, field)
				}
			}
		}
		if schema.Validate(map[string]any{}) == nil {
			t.Errorf("the schema of %s accepts an empty object", e.Kind())
		}
		if schema.Validate(map[string]any{"order_id": 7}) == nil {
			t.Errorf("the schema of %s accepts a number as order_id", e.Kind())
		}
	}
}

func TestAll_NamesEveryTypeWithAKind(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	kinds := map[string]bool{}
	for _, e := range contract.All() {
		listed[reflect.TypeOf(e).Name()] = true
		if kinds[e.Kind()] {
			t.Errorf("two events have the kind %s", e.Kind())
		}
		kinds[e.Kind()] = true
	}
	declared := typesWithKind(t)
	if len(declared) == 0 {
		t.Fatal("no type with a Kind method was found")
	}
	for name := range declared {
		if !listed[name] {
			t.Errorf("%s has a Kind and is missing from All", name)
		}
	}
	for name := range listed {
		if !declared[name] {
			t.Errorf("All names %s, which this package does not declare", name)
		}
	}
}

func TestTopics_RouteEveryKindAndNothingElse(t *testing.T) {
	t.Parallel()
	topics := contract.Topics()
	used := map[string]bool{}
	for _, e := range contract.All() {
		topic, err := topics.Of(e.Kind())
		if err != nil {
			t.Error(err)
		}
		used[topic] = true
		if _, _, err := event.SplitKind(e.Kind()); err != nil {
			t.Error(err)
		}
	}
	for word, topic := range topics {
		if !used[topic] {
			t.Errorf("no event begins with %q: topic %s stays empty", word, topic)
		}
	}
}

func TestCompensations_UndoAKindThatExists(t *testing.T) {
	t.Parallel()
	kinds := map[string]bool{}
	for _, e := range contract.All() {
		kinds[e.Kind()] = true
	}
	for _, e := range contract.All() {
		if c, ok := e.(event.Compensation); ok && (!kinds[c.Undoes()] || c.Undoes() == e.Kind()) {
			t.Errorf("%s undoes %q, which is not another event", e.Kind(), c.Undoes())
		}
	}
}

// The record of each event, as the kit writes it, is a CloudEvent to the
// official SDK. The SDK has no binding for our client, so headers are mapped as
// the binding's text says: "ce_" plus the attribute's name.
func TestEvents_RecordOfEach_IsAcceptedByTheCloudEventsSDK(t *testing.T) {
	t.Parallel()
	for _, e := range examples() {
		env := event.Envelope{
			ID: event.NewID(), Source: "/order-svc", Kind: e.Kind(), Key: e.Key(), Sequence: 1,
			Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), CorrelationID: e.Key(), Data: encode(t, e),
		}
		c := cloudevents.New()
		for _, h := range env.Headers() {
			setAttribute(t, &c, h, env.Data)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: the CloudEvents SDK refuses the record: %v", e.Kind(), err)
		}
		back, err := event.Decode([]byte(e.Key()), env.Headers(), env.Data)
		if err != nil || back.Kind != c.Type() || back.ID != c.ID() {
			t.Errorf("%s: the kit reads %q %q, %v; the SDK %q %q", e.Kind(), back.Kind, back.ID, err, c.Type(), c.ID())
		}
	}
}

func setAttribute(t *testing.T, c *cloudevents.Event, h event.Header, data []byte) {
	t.Helper()
	switch value := string(h.Value); h.Key {
	case "ce_specversion":
		c.SetSpecVersion(value)
	case "ce_id":
		c.SetID(value)
	case "ce_source":
		c.SetSource(value)
	case "ce_type":
		c.SetType(value)
	case "ce_subject":
		c.SetSubject(value)
	case "ce_time":
		at, err := time.Parse(time.RFC3339, value)
		must(t, err)
		c.SetTime(at)
	case "content-type":
		must(t, c.SetData(value, data))
	default:
		c.SetExtension(strings.TrimPrefix(h.Key, "ce_"), value)
	}
}

type golden struct {
	path string
	data []byte
}

// goldens returns the golden forms of a kind, oldest first: <kind>.json, then
// <kind>.<date>.json.
func goldens(t *testing.T, kind string) []golden {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", kind+"*.json"))
	must(t, err)
	slices.SortFunc(paths, func(a, b string) int {
		return strings.Compare(strings.TrimSuffix(a, ".json"), strings.TrimSuffix(b, ".json"))
	})
	var found []golden
	for _, path := range paths {
		if !strings.HasPrefix(filepath.Base(path), kind+".") {
			continue // v10 is not a form of v1
		}
		data, err := os.ReadFile(path)
		must(t, err)
		found = append(found, golden{path, data})
	}
	return found
}

func compile(t *testing.T, kind string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile(filepath.Join("schema", kind+".json"))
	if err != nil {
		t.Fatalf("%s has no sound schema: %v; run make generate", kind, err)
	}
	return schema
}

// typesWithKind finds the events in the source, so that one forgotten in All is seen.
func typesWithKind(t *testing.T) map[string]bool {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	must(t, err)
	found := map[string]bool{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		must(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "Kind" {
				continue
			}
			if receiver, ok := f.Recv.List[0].Type.(*ast.Ident); ok {
				found[receiver.Name] = true
			}
		}
	}
	return found
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	must(t, err)
	return append(data, '\n')
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
