package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"pavane/shared/service"
)

// authOff is the PAVANE_AUTH of a gateway that asks nobody who it is.
const authOff = "off"

// Config is what gateway-svc can be told from outside, with the prefix PAVANE.
type Config struct {
	service.Config

	Auth         string `desc:"off: callers are not asked who they are, and everything is everybody's; without it a gateway on more than the loopback needs PAVANE_AUTH_JWKS_FILE"`
	AuthJWKSFile string `desc:"JSON Web Key Set with the public keys of callers' tokens, RS256, ES256 or EdDSA; read again when it changes; empty: tokens are not asked for"`
	AuthIssuer   string `desc:"iss of the tokens"`
	AuthAudience string `desc:"aud of the tokens"`

	RateLimit  float64 `default:"0" desc:"requests per second of one caller, told by its token, else by its address; more is a 429; 0: any number"`
	RateBurst  int     `default:"0" desc:"requests that one caller may make at once; 0: those of two seconds"`
	MaxStreams int     `default:"100" desc:"streams that one caller may hold open; 0: any number"`

	UpstreamNetworks []string `desc:"networks such as 10.0.0.0/8 in which services may be; the gateway connects to no other address; empty: to any"`

	BreakURL string `desc:"demo: http URL on the loopback, or of a container, where operators have things broken; empty: there is no such route"`
}

// Validate refuses a gateway that is open by mistake, and breaking anywhere but
// in a demo on one machine.
func (c Config) Validate() error {
	_, err := c.networks()
	return errors.Join(err, c.validateAuth(), c.validateLimits(), c.validateBreak())
}

func (c Config) validateAuth() error {
	checked := c.AuthJWKSFile != ""
	switch {
	case c.Auth != "" && c.Auth != authOff:
		return fmt.Errorf("%s_AUTH=%q: set it to off, or leave it out and name the keys of tokens in %s_AUTH_JWKS_FILE", service.Prefix, c.Auth, service.Prefix)
	case c.Auth == authOff && checked:
		return fmt.Errorf("%s_AUTH=off and %s_AUTH_JWKS_FILE are both set: leave one out", service.Prefix, service.Prefix)
	case checked && (c.AuthIssuer == "" || c.AuthAudience == ""):
		return fmt.Errorf("%s_AUTH_JWKS_FILE is set: name whose tokens for whom are taken in %s_AUTH_ISSUER and %s_AUTH_AUDIENCE", service.Prefix, service.Prefix, service.Prefix)
	case checked && c.ServiceKey == "":
		return fmt.Errorf("%s_AUTH_JWKS_FILE is set without %s_SERVICE_KEY: the services know by it whose request is passed on; give it to all of them", service.Prefix, service.Prefix)
	case !checked && (c.AuthIssuer != "" || c.AuthAudience != ""):
		return fmt.Errorf("%s_AUTH_ISSUER or %s_AUTH_AUDIENCE is set without %s_AUTH_JWKS_FILE: no token would be asked for", service.Prefix, service.Prefix, service.Prefix)
	case !checked && c.Auth == "" && !onLoopback(c.HTTPAddr):
		return fmt.Errorf("%s_HTTP_ADDR=%q can be reached from other machines: name the keys of callers' tokens in %s_AUTH_JWKS_FILE, or set %s_AUTH=off to let anybody do anything",
			service.Prefix, c.HTTPAddr, service.Prefix, service.Prefix)
	}
	return nil
}

// onLoopback tells whether an address can be reached from this machine alone. A
// name may stand for anything.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && net.ParseIP(host).IsLoopback()
}

func (c Config) validateLimits() error {
	if c.RateLimit < 0 || math.IsNaN(c.RateLimit) || math.IsInf(c.RateLimit, 0) || c.RateBurst < 0 || c.MaxStreams < 0 {
		return fmt.Errorf("%s_RATE_LIMIT=%g, %s_RATE_BURST=%d, %s_MAX_STREAMS=%d: choose numbers from 0 on",
			service.Prefix, c.RateLimit, service.Prefix, c.RateBurst, service.Prefix, c.MaxStreams)
	}
	return nil
}

// networks are UpstreamNetworks as such.
func (c Config) networks() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.UpstreamNetworks {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s_UPSTREAM_NETWORKS: %q is no network: write it as 10.0.0.0/8", service.Prefix, text)
		}
		all = append(all, n)
	}
	return all, nil
}

// isNear tells whether a host is this machine or, by a name without a dot, a
// container of the same network: nobody else is shown the operator's token.
func isNear(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host != "" && !strings.ContainsAny(host, ".:")
}

func (c Config) validateBreak() error {
	if c.BreakURL == "" {
		return nil
	}
	u, err := url.Parse(c.BreakURL)
	if err != nil || u.Scheme != "http" || !isNear(u.Hostname()) {
		return fmt.Errorf("%s_BREAK_URL=%q: want http://127.0.0.1:port, which pavane up sets, or the bare name of a container, as in compose.chaos.yaml; leave it out anywhere else", service.Prefix, c.BreakURL)
	}
	if c.OperatorToken == "" {
		return fmt.Errorf("%s_BREAK_URL is set without %s_OPERATOR_TOKEN: only an operator may break things", service.Prefix, service.Prefix)
	}
	return nil
}
