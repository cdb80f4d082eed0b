package e2e_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pavane/internal/await"
	"pavane/internal/demo"
)

// metricName finds the names of our metrics and of those of the process.
var metricName = regexp.MustCompile(`\b(?:pavane|process|go)_[a-z_]*[a-z]\b`)

// designed are the names that others rely on.
func designed() []string {
	return []string{
		"pavane_outbox_backlog", "pavane_outbox_oldest_seconds", "pavane_relay_published_total", "pavane_inbox_applied_total",
		"pavane_inbox_duplicates_total", "pavane_inbox_gaps_total", "pavane_parked_keys",
	}
}

// testMetricNames: no rule, no panel and no page of the documents speaks of a
// metric that no service has.
func testMetricNames(t *testing.T, u *up) {
	gw := u.Gateway()
	_, err := gw.Place(orderLimit, "by-card", `{"customer_id":"cust-07","items":[{"sku":"mug-red","quantity":1}],"payment_method":"card","card_token":"tok_ok"}`)
	must(t, err) // so that the provider is called
	wanted := map[string]string{}
	for _, name := range designed() {
		wanted[name] = "the design"
	}
	for _, root := range []string{"../deploy/observability", "../docs/observability.md"} {
		must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			for _, name := range metricName.FindAllString(string(b), -1) {
				wanted[plain(name)] = path
			}
			return err
		}))
	}
	if len(wanted) < 2*len(designed()) {
		t.Fatalf("only %d names were found", len(wanted))
	}
	missing := slices.Collect(maps.Keys(wanted))
	await.True(t, orderLimit, "a service has every metric that is spoken of", func() bool {
		have := metricsOf(t, gw)
		missing = slices.DeleteFunc(missing, func(name string) bool { return have[name] })
		for _, name := range missing {
			t.Logf("%s of %s is nowhere", name, wanted[name])
		}
		return len(missing) == 0
	})
}

// plain is the name of a histogram's metric.
func plain(name string) string {
	for _, part := range []string{"_bucket", "_count", "_sum"} {
		name = strings.TrimSuffix(name, part)
	}
	return name
}

// metricsOf are the metrics of all services.
func metricsOf(t *testing.T, gw *demo.Gateway) map[string]bool {
	t.Helper()
	a, err := gw.Do(http.MethodGet, "/v1/members", "")
	must(t, err)
	var members struct{ Members []struct{ Addr string } }
	must(t, json.Unmarshal([]byte(a.Body), &members))
	have := map[string]bool{}
	for _, m := range members.Members {
		other := &demo.Gateway{Base: "http://" + m.Addr, HTTP: gw.HTTP}
		a, err := other.Do(http.MethodGet, "/metrics", "")
		must(t, err)
		for line := range strings.Lines(a.Body) {
			if fields := strings.Fields(line); len(fields) > 3 && fields[1] == "TYPE" {
				have[fields[2]] = true
			}
		}
	}
	return have
}
