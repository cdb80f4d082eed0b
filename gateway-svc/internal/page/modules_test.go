package page_test

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestStore_AnswerOlderThanTheStream_ChangesNoOrderBack(t *testing.T) {
	t.Parallel()
	var got struct{ Cancelled, Confirmed, Placed []any }
	run(t, &got, "store.mjs", filepath.Join(modules(t), "store.js"))
	for name, c := range map[string]struct{ got, want []any }{
		"an order that the stream has cancelled since": {got.Cancelled, []any{"cancelled", "out_of_stock", 2000.0}},
		"one that the answer knows confirmed":          {got.Confirmed, []any{"confirmed", nil, 3000.0}},
		"one of which the stream tells nothing":        {got.Placed, []any{"placed", nil, nil}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s is %v, want %v", name, c.got, c.want)
		}
	}
}

// placed is what testdata/place.mjs prints.
type placed struct {
	ID      string `json:"id"`
	Error   string `json:"error"`
	Unknown bool   `json:"unknown"` // whether it is placed
	Keys    int    `json:"keys"`    // that came with the requests
	Tries   int    `json:"tries"`
}

func TestPlace_NoAnswerTellsWhatBecameOfIt_IsSentAgainUnderTheSameKey(t *testing.T) {
	t.Parallel()
	dir := modules(t)
	for name, c := range map[string]struct {
		answers []string
		want    placed
	}{
		"taken":                        {[]string{`202 {"order_id": "o"}`}, placed{ID: "o", Keys: 1, Tries: 1}},
		"refused":                      {[]string{`422 {"detail": "no such product"}`}, placed{Error: "no such product", Keys: 1, Tries: 1}},
		"too much to do":               {[]string{`503 {"type": "urn:pavane:problem:busy", "detail": "busy"}`}, placed{Error: "busy", Keys: 1, Tries: 1}},
		"the connection breaks":        {[]string{"lost", `202 {"order_id": "o"}`}, placed{ID: "o", Keys: 1, Tries: 2}},
		"the answer is half of one":    {[]string{`202 {"order_`, `202 {"order_id": "o"}`}, placed{ID: "o", Keys: 1, Tries: 2}},
		"a proxy does not get through": {[]string{"504 <html>", "502 <html>", `202 {"order_id": "o"}`}, placed{ID: "o", Keys: 1, Tries: 3}},
		"it is cancelled meanwhile":    {[]string{"lost", `409 {"order_id": "o", "detail": "out of stock"}`}, placed{ID: "o", Keys: 1, Tries: 2}},
		"turned away":                  {[]string{"429 {}"}, placed{Error: "status 429", Keys: 1, Tries: 1}},
		"nobody answers":               {[]string{`503 {"detail": "order-svc does not answer now"}`}, placed{Error: "order-svc does not answer now", Unknown: true, Keys: 1, Tries: 41}},
		"turned away while in doubt":   {[]string{"lost", "429 {}"}, placed{Error: "status 429", Unknown: true, Keys: 1, Tries: 2}},
	} {
		var got placed
		run(t, &got, "place.mjs", append([]string{filepath.Join(dir, "api.js")}, c.answers...)...)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
