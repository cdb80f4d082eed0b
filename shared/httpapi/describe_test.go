package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/httpapi"
)

type searchInput struct {
	State string `query:"state" enum:"open,done"`
	Limit int    `query:"limit" minimum:"1"`
	Text  string `query:"text"`
}

type noteInput struct {
	RawBody []byte
	Body    struct {
		Text string `json:"text"`
		Kind string `json:"kind,omitempty" enum:"a,b"`
	}
}

func described(t *testing.T) *httpapi.Server {
	t.Helper()
	s, _ := newServer(t, ok)
	httpapi.Register(s, huma.Operation{OperationID: "search", Method: http.MethodGet, Path: "/v1/search", Errors: []int{422}},
		func(context.Context, *searchInput) (*struct{}, error) { return nil, nil })
	httpapi.Register(s, huma.Operation{OperationID: "note", Method: http.MethodPost, Path: "/v1/notes", Errors: []int{403}},
		func(context.Context, *noteInput) (*struct{}, error) { return nil, nil })
	return s
}

func TestDocument_SaysWhatIsDoneForEveryBody(t *testing.T) {
	t.Parallel()
	s := described(t)
	var document struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]any
			}
			Responses map[string]any
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Type, Enum any }
			}
		}
	}
	if err := json.NewDecoder(do(t, s, http.MethodGet, "/openapi.json", "", "").Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	note := document.Paths["/v1/notes"]["post"]
	if len(note.RequestBody.Content) != 1 || note.RequestBody.Content["application/json"] == nil {
		t.Errorf("bodies of %v are offered, JSON alone is read", note.RequestBody.Content)
	}
	for _, code := range []string{"400", "403", "413", "415", "422"} {
		if note.Responses[code] == nil {
			t.Errorf("nothing is said of %s", code)
		}
	}
	fields := document.Components.Schemas["NoteInputBody"].Properties
	if kind, text := fields["kind"], fields["text"]; text.Type != "string" || !slices.Contains(kind.Type.([]any), any("null")) || !slices.Contains(kind.Enum.([]any), nil) {
		t.Errorf("text is %v, kind %v of %v: only what may be left out may be null", text.Type, kind.Type, kind.Enum)
	}
	// And it is so.
	for body, want := range map[string]int{`{"text":"a","kind":null}`: 204, `{"text":null}`: 422, `{"text":"a","kind":"c"}`: 422} {
		if got := do(t, s, http.MethodPost, "/v1/notes", "application/json", body); got.StatusCode != want {
			t.Errorf("%s: %d, want %d", body, got.StatusCode, want)
		}
	}
}

func TestQuery_EmptyOrNotUTF8(t *testing.T) {
	t.Parallel()
	s := described(t)
	for query, want := range map[string]int{
		"": 204, "text=": 204, "state=open&limit=3": 204, "state=": 422, "limit=": 422, "state": 422,
		"text=%C3%A4": 204, "text=%FF": 400, "text=%zz": 400,
	} {
		got := do(t, s, http.MethodGet, "/v1/search?"+query, "", "")
		if got.StatusCode != want {
			t.Errorf("%q: %d, want %d", query, got.StatusCode, want)
			continue
		}
		if want != 204 {
			problem(t, got, want)
		}
	}
	if got := do(t, s, http.MethodGet, "/v1/%FF", "", ""); got.StatusCode != 400 {
		t.Errorf("a path that is not UTF-8: %d", got.StatusCode)
	}
}
