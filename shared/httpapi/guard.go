package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"pavane/shared/identity"
)

// Guard looks at a request before any route does. It returns the request, with
// what it found out in its context, or nil when it has answered.
type Guard func(w http.ResponseWriter, r *http.Request) *http.Request

// Guard has every request pass g, in the order of the calls. It is called before
// the server serves.
func (s *Server) Guard(g Guard) { s.guards = append(s.guards, g) }

// ForServices lets only calls of other services pass: requests with a token that
// one of keys signed for the service self. Their principal is in the context
// ([identity.From]). Others get a 401, but for the paths that are open: /livez
// and /readyz, which say what is missing, and /metrics: none says a secret, and
// they are for those who look after the process and have no such token.
//
// Without keys everybody passes who shows no token. One who shows a token counts
// on it, and gets a 401 as well.
func (s *Server) ForServices(self string, keys *identity.Keys) {
	s.Guard(func(w http.ResponseWriter, r *http.Request) *http.Request {
		if slices.Contains(openPaths(), r.URL.Path) || keys == nil && r.Header.Get("Authorization") == "" {
			return r
		}
		token, err := Bearer(r)
		if err == nil {
			var p identity.Principal
			if p, err = keys.Verify(self, token); err == nil {
				return r.WithContext(identity.With(r.Context(), p))
			}
		}
		Unauthorized(w, r, token != "", err.Error()+"; "+self+" takes calls of the other services alone, and all have the same service key")
		return nil
	})
}

// openPaths are open to everybody who reaches the service.
func openPaths() []string { return []string{"/livez", "/readyz", "/metrics"} }

// Bearer returns the token of the header Authorization (RFC 6750, 2.1); an error
// says that there is none.
func Bearer(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 1 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if token = strings.TrimSpace(token); token != "" && strings.EqualFold(scheme, "Bearer") {
			return token, nil
		}
	}
	return "", errNoBearer{}
}

type errNoBearer struct{}

func (errNoBearer) Error() string {
	return "there is no token: send Authorization: Bearer and one"
}

// Unauthorized answers 401 to a request whose token is missing, or shown and
// wrong (RFC 6750, 3).
func Unauthorized(w http.ResponseWriter, r *http.Request, shown bool, detail string) {
	challenge := "Bearer"
	if shown {
		challenge = `Bearer error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	WriteProblem(w, r, http.StatusUnauthorized, detail)
}
