package main

import (
	"strings"
	"testing"

	"pavane/shared/service"
)

func TestConfig_BreakURL_IsForADemoWithAnOperatorOnly(t *testing.T) {
	t.Parallel()
	const token = "sixteen-or-more-characters"
	for name, c := range map[string]struct{ url, token, want string }{
		"none":              {"", "", ""},
		"a demo":            {"http://127.0.0.1:4711", token, ""},
		"nobody may":        {"http://127.0.0.1:4711", "", "PAVANE_OPERATOR_TOKEN"},
		"another machine":   {"http://shop.example:4711", token, "want http://127.0.0.1:port"},
		"by name":           {"http://localhost.example:4711", token, "want http://127.0.0.1:port"},
		"a container":       {"http://chaos:4711", token, ""},
		"no host":           {"http://:4711", token, "want http://127.0.0.1:port"},
		"another by number": {"http://[2001:db8::1]:4711", token, "want http://127.0.0.1:port"},
		"another scheme":    {"file:///etc/passwd", token, "want http://127.0.0.1:port"},
		"not even a URL":    {"http://127.0.0.1:x", token, "want http://127.0.0.1:port"},
		"IPv6 of loopback":  {"http://[::1]:4711", token, ""},
	} {
		err := Config{Config: service.Config{HTTPAddr: "127.0.0.1:0", OperatorToken: c.token}, BreakURL: c.url}.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestConfig_Access_IsNeverOpenByMistake(t *testing.T) {
	t.Parallel()
	const key = "a-service-key-of-thirty-two-bytes-or-more"
	checked := func(change func(*Config)) Config {
		c := Config{
			Config:       service.Config{HTTPAddr: "0.0.0.0:8080", ServiceKey: key},
			AuthJWKSFile: "/keys/jwks.json", AuthIssuer: "https://issuer.example", AuthAudience: "pavane",
		}
		change(&c)
		return c
	}
	at := func(addr, auth string) Config { return Config{Config: service.Config{HTTPAddr: addr}, Auth: auth} }
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"on the loopback":           {at("127.0.0.1:8080", ""), ""},
		"on that of IPv6":           {at("[::1]:8080", ""), ""},
		"on all addresses":          {at(":8080", ""), "PAVANE_AUTH=off"},
		"on all of IPv4":            {at("0.0.0.0:8080", ""), "PAVANE_AUTH_JWKS_FILE"},
		"on all of IPv6":            {at("[::]:8080", ""), "PAVANE_AUTH_JWKS_FILE"},
		"on a name":                 {at("localhost:8080", ""), "PAVANE_AUTH_JWKS_FILE"},
		"said to be open":           {at("0.0.0.0:8080", "off"), ""},
		"said otherwise":            {at("127.0.0.1:8080", "no"), "set it to off"},
		"with tokens":               {checked(func(*Config) {}), ""},
		"with tokens and off":       {checked(func(c *Config) { c.Auth = "off" }), "leave one out"},
		"tokens of anybody":         {checked(func(c *Config) { c.AuthIssuer = "" }), "PAVANE_AUTH_ISSUER"},
		"tokens for anybody":        {checked(func(c *Config) { c.AuthAudience = "" }), "PAVANE_AUTH_AUDIENCE"},
		"no key for the services":   {checked(func(c *Config) { c.ServiceKey = "" }), "PAVANE_SERVICE_KEY"},
		"an issuer without keys":    {checked(func(c *Config) { c.AuthJWKSFile, c.HTTPAddr = "", "127.0.0.1:1" }), "no token would be asked for"},
		"a negative rate":           {checked(func(c *Config) { c.RateLimit = -1 }), "PAVANE_RATE_LIMIT"},
		"networks":                  {checked(func(c *Config) { c.UpstreamNetworks = []string{"10.0.0.0/8", "fd00::/8"} }), ""},
		"an address for a network":  {checked(func(c *Config) { c.UpstreamNetworks = []string{"10.0.0.1"} }), "write it as 10.0.0.0/8"},
		"a host name for a network": {checked(func(c *Config) { c.UpstreamNetworks = []string{"order-svc"} }), "write it as 10.0.0.0/8"},
	} {
		err := c.config.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
