package e2e_test

import (
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"

	"pavane/internal/demo"
)

// The demo asks for tokens, and its authority gives them: a customer sees what is
// its own, and all commands of the tool work as they do without.
func TestUp_GatewayAsksForTokens_CustomersGetTheirOwnAndTheToolWorks(t *testing.T) {
	t.Parallel()
	u := start(t, how{args: []string{"--auth", "--no-orders"}})
	gw := u.Gateway()
	as := func(subject string, more ...string) []string {
		t.Helper()
		out, err := u.Tool(append([]string{"token", "--subject", subject}, more...)...)
		if err != nil {
			t.Fatalf("pavane token: %v %s", err, out)
		}
		return []string{"Authorization", "Bearer " + strings.TrimSpace(out)}
	}
	ask := func(want int, method, route, body string, headers ...string) demo.Answer {
		t.Helper()
		a, err := gw.Do(method, route, body, headers...)
		must(t, err)
		if a.Status != want {
			t.Errorf("%s %s: %s; want %d", method, route, a, want)
		}
		return a
	}
	order := body("cust-01", "tea-green")
	ask(http.StatusUnauthorized, http.MethodPost, "/v1/orders", order)
	ask(http.StatusForbidden, http.MethodPost, "/v1/orders", order, as("cust-02")...)
	placed := ask(http.StatusAccepted, http.MethodPost, "/v1/orders", order, as("cust-01")...)
	id := path.Base(placed.Header.Get("Location"))
	ask(http.StatusOK, http.MethodGet, "/v1/orders/"+id, "", as("cust-01")...)
	ask(http.StatusNotFound, http.MethodGet, "/v1/orders/"+id, "", as("cust-02")...)
	ask(http.StatusOK, http.MethodGet, "/v1/orders/"+id, "", as("cust-02", "--scope", "pavane:read")...)

	page := regexp.MustCompile(`#operator=\S+&token=(\S+)`).FindStringSubmatch(u.Said("page: "))
	if page == nil {
		t.Fatalf("the page's address bears no token: %s", u.Said("page: "))
	}
	ask(http.StatusOK, http.MethodGet, "/v1/orders/"+id, "", "Authorization", "Bearer "+page[1])

	for _, c := range []struct {
		says string
		args []string
	}{
		{"confirmed after", []string{"order", "--customer", "cust-05"}},
		{"placed", []string{"order", "--rate", "5", "--for", "2s"}},
		{"order.confirmed", []string{"saga", "show", id}},
		{"bad input", []string{"smoke"}},
	} {
		if out, err := u.Tool(c.args...); err != nil || !strings.Contains(out, c.says) {
			t.Errorf("pavane %s: %v, want %q in\n%s", strings.Join(c.args, " "), err, c.says, out)
		}
	}
}
