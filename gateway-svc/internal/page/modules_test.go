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
