package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/devstack"
)

const (
	rulesFile = "../deploy/observability/rules/pavane.yml"
	// promLook is how often Prometheus reads the services and the rules.
	promLook = time.Second
	// alertLimit is how long an alert may take to fire and to clear.
	alertLimit = 90 * time.Second
)

// hurried are the rules in a hurry: each `for` is a second, each range and each
// offset 15 s. Thresholds stay as they are.
func hurried(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(rulesFile)
	must(t, err)
	rules := regexp.MustCompile(`(?m)^(\s+for:) \S+$`).ReplaceAllString(string(b), "$1 1s")
	return regexp.MustCompile(`(\[|offset )\d+[mh]`).ReplaceAllString(rules, "${1}15s")
}

// alertNames are those of the rules.
func alertNames(t testing.TB) (names []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(hurried(t), -1) {
		names = append(names, m[1])
	}
	return names
}

// prometheus is a real one that reads a demo's services.
type prometheus struct {
	t      testing.TB
	u      *up
	url    string
	dir    string
	frozen atomic.Bool // the list of services stays as it is
	known  string
}

// startPrometheus runs the prometheus of the PATH, or that of the folder
// PAVANE_PROMETHEUS, until the test ends.
func startPrometheus(t testing.TB, u *up) *prometheus {
	t.Helper()
	binary, err := exec.LookPath(filepath.Join(os.Getenv("PAVANE_PROMETHEUS"), "prometheus"))
	if err != nil {
		t.Fatalf("no Prometheus here: %v; install one (apt-get install prometheus), or name its folder in PAVANE_PROMETHEUS", err)
	}
	p := &prometheus{t: t, u: u, dir: freshDir(t)}
	must(t, os.WriteFile(filepath.Join(p.dir, "rules.yml"), []byte(hurried(t)), 0o600))
	config := fmt.Sprintf(`global: { scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s }
rule_files: [rules.yml]
scrape_configs:
  - job_name: pavane
    file_sd_configs: [{ files: [services.json], refresh_interval: %[1]s }]
`, promLook)
	must(t, os.WriteFile(filepath.Join(p.dir, "prometheus.yml"), []byte(config), 0o600))
	p.discover()
	port, err := devstack.FreePort(0)
	must(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	log, err := os.Create(filepath.Join(p.dir, "log"))
	must(t, err)
	cmd := exec.Command(binary, "--config.file", "prometheus.yml", "--storage.tsdb.path", "data", "--web.listen-address", addr)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
		if b, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("prometheus:\n%s", b[max(0, len(b)-4000):])
		}
	})
	p.url = "http://" + addr
	return p
}

// discover writes down where the services are now, unless that is frozen: one
// that is down must be missed.
func (p *prometheus) discover() {
	p.t.Helper()
	if p.frozen.Load() {
		return
	}
	a, err := p.u.Gateway().Do(http.MethodGet, "/v1/members", "")
	if err != nil || a.Status != http.StatusOK || a.Body == p.known {
		return
	}
	var members struct {
		Members []struct{ Service, Addr string }
	}
	must(p.t, json.Unmarshal([]byte(a.Body), &members))
	type target struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	targets := []target{}
	for _, m := range members.Members {
		targets = append(targets, target{[]string{m.Addr}, map[string]string{"service": m.Service}})
	}
	b, err := json.Marshal(targets)
	must(p.t, err)
	must(p.t, os.WriteFile(filepath.Join(p.dir, "services.new"), b, 0o600))
	must(p.t, os.Rename(filepath.Join(p.dir, "services.new"), filepath.Join(p.dir, "services.json")))
	p.known = a.Body
}

// firing are the alerts that fire now, each with the labels of one, and whether
// Prometheus answers.
func (p *prometheus) firing() (names []string, ok bool) {
	res, err := http.Get(p.url + "/api/v1/alerts")
	if err != nil {
		return nil, false
	}
	defer res.Body.Close()
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	if json.NewDecoder(res.Body).Decode(&answer) != nil {
		return nil, false
	}
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), res.StatusCode == http.StatusOK
}

// read tells whether Prometheus has read all services.
func (p *prometheus) read() bool {
	res, err := http.Get(p.url + "/api/v1/query?query=" + "sum(up)")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	return json.NewDecoder(res.Body).Decode(&answer) == nil && len(answer.Data.Result) == 1 && answer.Data.Result[0].Value[1] == fmt.Sprint(len(services()))
}

// understands demands that Prometheus can work out each expression of the
// dashboard.
func (p *prometheus) understands(dashboard string) {
	p.t.Helper()
	b, err := os.ReadFile(dashboard)
	must(p.t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(p.t, json.Unmarshal(b, &board))
	if len(board.Panels) == 0 {
		p.t.Fatalf("%s has no panels", dashboard)
	}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			expr := strings.ReplaceAll(target.Expr, "$__rate_interval", "15s")
			res, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(expr))
			must(p.t, err)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				p.t.Errorf("panel %q: Prometheus answers %s to %s", panel.Title, res.Status, expr)
			}
		}
	}
}

// fire waits until all of these have fired since it was called.
func (p *prometheus) fire(names ...string) {
	p.t.Helper()
	fired := map[string]bool{}
	p.until("fire", names, func(firing []string) bool {
		for _, name := range firing {
			fired[name] = true
		}
		return !slices.ContainsFunc(names, func(n string) bool { return !fired[n] })
	})
}

// clear waits until none of these fires.
func (p *prometheus) clear(names ...string) {
	p.t.Helper()
	p.until("clear", names, func(firing []string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(firing, n) })
	})
}

func (p *prometheus) until(what string, names []string, condition func(firing []string) bool) {
	p.t.Helper()
	began, next, last := time.Now(), time.Time{}, []string(nil)
	defer func() { p.t.Logf("%s after %.0f s: %s", what, time.Since(began).Seconds(), strings.Join(names, " ")) }()
	await.True(p.t, alertLimit, what+" "+strings.Join(names, " "), func() bool {
		if time.Now().Before(next) {
			return false
		}
		next = time.Now().Add(promLook / 4)
		p.discover()
		firing, ok := p.firing()
		if !slices.Equal(firing, last) {
			p.t.Logf("%.0f s: firing: %s", time.Since(began).Seconds(), strings.Join(firing, " "))
			last = firing
		}
		return ok && condition(firing)
	})
}
