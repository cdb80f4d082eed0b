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
		"none":             {"", "", ""},
		"a demo":           {"http://127.0.0.1:4711", token, ""},
		"nobody may":       {"http://127.0.0.1:4711", "", "PAVANE_OPERATOR_TOKEN"},
		"another machine":  {"http://shop.example:4711", token, "want http://127.0.0.1:port"},
		"by name":          {"http://localhost.example:4711", token, "want http://127.0.0.1:port"},
		"another scheme":   {"file:///etc/passwd", token, "want http://127.0.0.1:port"},
		"not even a URL":   {"http://127.0.0.1:x", token, "want http://127.0.0.1:port"},
		"IPv6 of loopback": {"http://[::1]:4711", token, ""},
	} {
		err := Config{Config: service.Config{HTTPAddr: "127.0.0.1:0", OperatorToken: c.token}, BreakURL: c.url}.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
