package httpapi

import (
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

const (
	jsonType   = "application/json"
	binaryType = "application/octet-stream"
)

// describe brings the description of an operation in line with what is done for
// every operation, so that the OpenAPI document promises no more and no less.
func describe(api *huma.OpenAPI, op *huma.Operation) {
	if op.RequestBody == nil {
		return
	}
	// Huma offers bytes wherever a handler looks at the body as it came.
	content := op.RequestBody.Content
	if content[jsonType] != nil {
		delete(content, binaryType)
	}
	for _, media := range content {
		allowNull(api.Components.Schemas, media.Schema)
	}
	for _, status := range []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity} {
		code := strconv.Itoa(status)
		if op.Responses[code] == nil && op.Responses["default"] == nil {
			op.Responses[code] = ProblemResponse(api.Components.Schemas, status)
		}
	}
}

// refuseEmpty refuses a query parameter that is there without a value where its
// schema wants one: huma takes it for one that is left out.
func (s *Server) refuseEmpty(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	query := u.Query()
	for _, p := range ctx.Operation().Parameters {
		if p.In != "query" || !query.Has(p.Name) || query.Get(p.Name) != "" || mayBeEmpty(p.Schema) {
			continue
		}
		huma.WriteErr(s.api, ctx, http.StatusUnprocessableEntity, "validation failed", //nolint:errcheck // the client is gone
			&huma.ErrorDetail{Location: "query." + p.Name, Message: "there is no value: give one, or leave the parameter out"})
		return
	}
	next(ctx)
}

func mayBeEmpty(s *huma.Schema) bool {
	return s == nil || s.Type == huma.TypeString && len(s.Enum) == 0 && s.Format == "" && (s.MinLength == nil || *s.MinLength == 0) &&
		(s.Pattern == "" || regexp.MustCompile(s.Pattern).MatchString(""))
}

// allowNull says of every field that may be left out that null is the same:
// that is how bodies are read.
func allowNull(registry huma.Registry, s *huma.Schema) {
	switch {
	case s == nil:
	case s.Ref != "":
		allowNull(registry, registry.SchemaFromRef(s.Ref))
	case s.Type == huma.TypeArray:
		allowNull(registry, s.Items)
	default:
		for name, field := range s.Properties {
			if field.Ref == "" && !slices.Contains(s.Required, name) {
				field.Nullable = true
				if len(field.Enum) > 0 && !slices.Contains(field.Enum, nil) {
					field.Enum = append(slices.Clip(field.Enum), nil)
				}
			}
			allowNull(registry, field)
		}
	}
}

// hideValues takes the value out of the description of a wrong field: it is never
// sent.
func hideValues(registry huma.Registry) {
	if detail := registry.Map()[reflect.TypeFor[huma.ErrorDetail]().Name()]; detail != nil {
		delete(detail.Properties, "value")
	}
}

// ProblemResponse describes an answer that is an RFC 9457 problem, for operations
// that huma does not serve. The registry is that of the document's components.
func ProblemResponse(registry huma.Registry, status int) *huma.Response {
	schema := registry.Schema(reflect.TypeFor[huma.ErrorModel](), true, "Error")
	return &huma.Response{
		Description: http.StatusText(status),
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
	}
}
