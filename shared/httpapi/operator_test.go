package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"pavane/shared/httpapi"
)

func TestOperator_OnlyWhoShowsTheTokenFromThisSite_IsOne(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	for name, c := range map[string]struct {
		configured string
		headers    map[string]string
		want       bool
	}{
		"the token":                  {token, map[string]string{httpapi.OperatorHeader: token}, true},
		"the token, from this site":  {token, map[string]string{httpapi.OperatorHeader: token, "Origin": "http://shop.test", "Sec-Fetch-Site": "same-origin"}, true},
		"none":                       {token, nil, false},
		"another":                    {token, map[string]string{httpapi.OperatorHeader: token + "0"}, false},
		"as bearer":                  {token, map[string]string{"Authorization": "Bearer " + token}, false},
		"from another site":          {token, map[string]string{httpapi.OperatorHeader: token, "Sec-Fetch-Site": "cross-site"}, false},
		"from an older browser":      {token, map[string]string{httpapi.OperatorHeader: token, "Origin": "http://other.test"}, false},
		"none where none is there":   {"", map[string]string{httpapi.OperatorHeader: ""}, false},
		"some where none is there":   {"", map[string]string{httpapi.OperatorHeader: token}, false},
		"none configured, none sent": {"", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://shop.test/", nil)
			for header, value := range c.headers {
				r.Header.Set(header, value)
			}
			if err := httpapi.Operator(r, c.configured); (err == nil) != c.want {
				t.Errorf("%v; want an operator: %t", err, c.want)
			}
		})
	}
}
