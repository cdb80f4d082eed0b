package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/fault"
	"pavane/shared/httpapi"
)

func ExampleRegister() {
	s := httpapi.New(httpapi.Config{Title: "Orders", Version: "1.0.0", Logger: slog.New(slog.DiscardHandler)})

	type input struct {
		ID string `path:"id" maxLength:"36"`
	}
	type output struct {
		Body struct {
			ID string `json:"id"`
		}
	}
	op := huma.Operation{OperationID: "get-order", Method: http.MethodGet, Path: "/v1/orders/{id}"}
	httpapi.Register(s, op, func(_ context.Context, in *input) (*output, error) {
		if in.ID != "o-1" {
			return nil, fault.NotFound("there is no order %q", in.ID)
		}
		var out output
		out.Body.ID = in.ID
		return &out, nil
	})

	for _, path := range []string{"/v1/orders/o-1", "/v1/orders/o-2"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
		r.Header.Set("X-Request-Id", "r-1")
		s.Handler().ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Body)
		fmt.Print(w.Code, " ", string(body))
	}
	// Output:
	// 200 {"id":"o-1"}
	// 404 {"title":"Not Found","status":404,"detail":"there is no order \"o-2\"","instance":"urn:pavane:request:r-1"}
}
