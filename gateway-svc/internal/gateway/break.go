package gateway

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"pavane/shared/httpapi"
)

// breakPath is where operators have things broken, in the demo.
const breakPath = "/v1/break"

// registerBreak passes what operators want broken on to who can do it. It is no
// part of the API: nothing of a real deployment has it.
func (g *Gateway) registerBreak(s *httpapi.Server) {
	target, err := url.Parse(g.config.BreakURL)
	if g.config.BreakURL == "" || err != nil {
		return
	}
	proxy := &httputil.ReverseProxy{
		Transport: g.upstream.client.Transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.URL.Path, p.Out.URL.RawPath = strings.TrimPrefix(p.In.URL.Path, breakPath), ""
			p.Out.Header = http.Header{"Authorization": {"Bearer " + g.config.OperatorToken}}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			httpapi.WriteProblem(w, r, http.StatusBadGateway, "the demo does not take orders now; it may be stopping")
		},
	}
	s.Handle(breakPath+"/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := httpapi.Operator(r, g.config.OperatorToken); err != nil {
			httpapi.WriteProblem(w, r, http.StatusForbidden, err.Error())
			return
		}
		proxy.ServeHTTP(w, r)
	}))
}
