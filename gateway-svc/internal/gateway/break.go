package gateway

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"pavane/shared/httpapi"
	"pavane/shared/identity"
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
	demo := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTime}).DialContext} // this machine's, wherever the services may be
	g.atClose = append(g.atClose, demo.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Transport: demo,
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
		if p, _ := identity.From(r.Context()); !p.Has(identity.ScopeOperate) {
			err := httpapi.Operator(r, g.config.OperatorToken)
			httpapi.WriteProblem(w, r, http.StatusForbidden, err.Error())
			return
		}
		proxy.ServeHTTP(w, r)
	}))
}
