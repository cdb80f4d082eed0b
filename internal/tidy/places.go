package tidy

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// placesPage tells how a service is added. Every place is linked there.
const placesPage = "docs/adding-a-service.md"

// who of the services stands in a place.
type who int

const (
	everyService    who = iota
	reactingService     // has a table of reactions, and so a database and a group
	publishingService
)

// place is where services are named outside of their folders.
type place struct {
	file string
	of   who
	what string // of the place, in a message
	// pattern finds the names, as its group. With whole each match has to name all
	// of them; without it the matches do so together, one line for each.
	pattern string
	whole   bool
}

// places are all lists of services that no compiler compares. NAME in a file's
// name is the service's, SHORT the part before -svc: such a file must be there.
func places() []place {
	const quoted = `"([a-z]+-svc)"`
	return []place{
		{file: "shared/contract/contract.go", of: publishingService, what: "Topics", pattern: `(?m)^\t\t"([a-z]+)": +"[a-z]+\.events`},
		{file: "migrations/SHORT/grants.txt", of: reactingService},
		{file: "migrations/migrations.go", of: reactingService, what: "go:embed", pattern: `(?m)^//go:embed kit (.*)`, whole: true},
		{file: "migrations/migrations.go", of: reactingService, what: "its function", pattern: `the tables of ([a-z]+-svc)`},
		{file: "internal/audit/load.go", of: reactingService, what: "parts", pattern: `(?m)^\t\t\{` + quoted},
		{file: "gateway-svc/internal/gateway/gateway.go", of: reactingService, what: "its constant", pattern: `(?m)^\t\w+ += ` + quoted},
		{file: "gateway-svc/internal/gateway/gateway.go", of: reactingService, what: "storytellers", pattern: `(?s)func storytellers\(\).*?return \[\]string\{(.*?)\}`, whole: true},
		{file: "gateway-svc/internal/gateway/parked.go", of: reactingService, what: "enum", pattern: `enum:"([^"]*-svc[^"]*)"`, whole: true},
		{file: "gateway-svc/internal/page/files/sequence.js", of: reactingService, what: "LANES", pattern: `const LANES = \[(.*)\]`, whole: true},
		{file: "proof/access/docs_test.go", of: reactingService, what: "privilegeTable", pattern: `\{` + quoted + `, migrations`},

		{file: "Makefile", what: "SERVICES", pattern: `(?m)^SERVICES := (.*)`, whole: true},
		{file: "cmd/pavane/internal/stack/stack.go", what: "services", pattern: `(?m)^(?:\t\t\{|const gateway = )` + quoted},
		{file: "cmd/pavane/internal/fault/table.go", what: "all", pattern: `return \[\]string\{("[a-z]+-svc".*)\}`, whole: true},
		{file: "internal/demo/demo.go", what: "Services", pattern: `return \[\]string\{("[a-z]+-svc".*)\}`, whole: true},
		{file: "chaos/rolling-restart.sh", of: reactingService, what: "for service", pattern: `for service in (.*);`, whole: true},

		{file: "deploy/Dockerfile", what: "go build", pattern: `\./cmd/pavane (\./.*) \\`, whole: true},
		{file: "deploy/Dockerfile", what: "SERVICE in the comment", pattern: `(?s)# SERVICE is (.*?) or pavane`, whole: true},
		{file: "deploy/kafka/principals.sh", what: "for user", pattern: `for user in (.*);`, whole: true},
		{file: "deploy/kafka/acls.sh", what: "Describe", pattern: `(?m)^grant "(.*)" "Describe DescribeConfigs"`, whole: true},
		{file: "deploy/kafka/acls.sh", of: publishingService, what: "Write", pattern: `(?m)^grant ([a-z]+-svc) +"Write Read"`},
		{file: "deploy/kafka/acls.sh", of: reactingService, what: "Read of its group", pattern: `for service in (.*);`, whole: true},
		{file: "deploy/postgres/roles.sh", of: reactingService, what: "DATABASES", pattern: `DATABASES:-(.*?)\}`, whole: true},
		{file: "deploy/secrets.sh", of: reactingService, what: "for database", pattern: `for database in (.*);`, whole: true},
		{file: "deploy/secure.sh", what: "for user", pattern: `for user in (.*);`, whole: true},
		{file: "deploy/secure.sh", of: reactingService, what: "for database", pattern: `for database in (.*);`, whole: true},
		{file: "deploy/observability/prometheus.yml", what: "names", pattern: `names: \[(.*?)\]`, whole: true},

		{file: "compose.yaml", what: "PAVANE_REGISTRY_JOIN", pattern: `PAVANE_REGISTRY_JOIN: (.*)`, whole: true},
		{file: "compose.yaml", what: "PAVANE_REGISTRY_ALLOWED", pattern: `PAVANE_REGISTRY_ALLOWED: (.*)`, whole: true},
		{file: "compose.yaml", what: "its container", pattern: `(?m)^  ([a-z]+-svc):`},
		{file: "compose.yaml", of: reactingService, what: "its container that migrates", pattern: `(?m)^  ([a-z]+)-migrate:`},
		{file: "compose.yaml", of: reactingService, what: "secrets of postgres-init", pattern: `secrets: \[postgres_password, (.*)\]`, whole: true},
		{file: "compose.yaml", of: reactingService, what: "its secrets", pattern: `(?m)^  ([a-z]+)(?:_owner)?(?:_url)?: \{ file: `},
		{file: "compose.secure.yaml", what: "its container", pattern: `(?m)^  ([a-z]+-svc):`},
		{file: "compose.secure.yaml", of: reactingService, what: "its container that migrates", pattern: `(?m)^  ([a-z]+)-migrate:`},
		{file: "compose.secure.yaml", what: "its password for Kafka", pattern: `(?m)^  kafka_([a-z]+-svc): \{`},
		{file: "compose.secure.yaml", what: "secrets of kafka-principals", pattern: `secrets: \[(kafka_.*-svc.*, .*)\]`, whole: true},
		{file: "compose.chaos.yaml", what: "--kafka", pattern: `--kafka=(.*)`, whole: true},
		{file: "compose.chaos.yaml", of: reactingService, what: "--postgres", pattern: `--postgres=(.*)`, whole: true},
		{file: "compose.chaos.yaml", what: "its container", pattern: `(?m)^  ([a-z]+-svc):`},
		{file: "compose.chaos.yaml", of: reactingService, what: "its database by the proxy", pattern: `(?m)^  ([a-z]+)_url: \{ file: `},
		{file: "deploy/compose-test.sh", what: "SERVICES", pattern: `(?m)^SERVICES="(.*)"`, whole: true},

		{file: "deploy/k8s/base/NAME/kustomization.yaml"},
		{file: "deploy/k8s/base/NAME/migrate/kustomization.yaml", of: reactingService},
		{file: "deploy/k8s/base/NAME/relay/kustomization.yaml", of: reactingService},
		{file: "deploy/k8s/overlays/settings/kustomization.yaml", what: "images", pattern: `name: pavane/([a-z]+-svc)`},
		{file: "deploy/k8s/overlays/whole/kustomization.yaml", what: "resources", pattern: `base/([a-z]+-svc)`},
		{file: "deploy/k8s/overlays/migrate/kustomization.yaml", of: reactingService, what: "resources", pattern: `base/([a-z]+-svc)/migrate`},
		{file: "deploy/k8s/components/relay-apart/kustomization.yaml", of: reactingService, what: "resources", pattern: `base/([a-z]+-svc)/relay`},
	}
}

// Places finds every place that does not name exactly the services that there
// are, and every one that the page for newcomers leaves out.
func (t Tree) Places() []Violation {
	services, page := t.services(), t.text(placesPage)
	linked := map[string]bool{}
	var found []Violation
	for _, p := range places() {
		link, _, _ := strings.Cut(p.file, "/NAME/")
		link, _, _ = strings.Cut(link, "/SHORT/")
		if !linked[link] && !strings.Contains(page, "](../"+link+")") {
			found = append(found, Violation{placesPage, 0, "no link to " + link + ", which names the services"})
		}
		linked[link] = true
		if p.pattern == "" {
			found = append(found, t.missing(p, services[p.of])...)
		} else {
			found = append(found, t.compare(p, services)...)
		}
	}
	return found
}

// services are the names of the services by what they do.
func (t Tree) services() map[who][]string {
	names := map[who]map[string]bool{everyService: {}, reactingService: {}, publishingService: {}}
	for _, f := range t.Files {
		dir, base := path.Split(f.Path)
		name := strings.TrimSuffix(dir, "/")
		if !match("*-svc", name) {
			continue
		}
		names[everyService][name] = true
		if base == "saga.go" {
			names[reactingService][name] = true
		}
	}
	for _, m := range regexp.MustCompile(`"[a-z]+": "([a-z]+-svc)"`).FindAllStringSubmatch(t.text("shared/contract/contract.go"), -1) {
		names[publishingService][m[1]] = true
	}
	sorted := map[who][]string{}
	for of, set := range names {
		sorted[of] = slices.Sorted(maps.Keys(set))
	}
	return sorted
}

// missing finds the files of services that are not there.
func (t Tree) missing(p place, services []string) []Violation {
	var found []Violation
	for _, s := range services {
		name := strings.NewReplacer("NAME", s, "SHORT", strings.TrimSuffix(s, "-svc")).Replace(p.file)
		if !t.has(name) {
			found = append(found, Violation{name, 0, "missing; " + s + " needs it, see " + placesPage})
		}
	}
	return found
}

// compare finds the services that a list lacks, and names in it that are none.
func (t Tree) compare(p place, services map[who][]string) []Violation {
	text := t.text(p.file)
	matches := regexp.MustCompile(p.pattern).FindAllStringSubmatchIndex(text, -1)
	if len(matches) == 0 {
		return []Violation{{p.file, 0, fmt.Sprintf("no %s is found any more; bring internal/tidy/places.go up to date", p.what)}}
	}
	var all []string
	var found []Violation
	for _, m := range matches {
		words := regexp.MustCompile(`[A-Za-z]+(-svc)?`).FindAllString(text[m[2]:m[3]], -1)
		line := 1 + strings.Count(text[:m[2]], "\n")
		for _, w := range words {
			if strings.HasSuffix(w, "-svc") && !slices.Contains(services[everyService], w) {
				found = append(found, Violation{p.file, line, fmt.Sprintf("%s names %s, and there is no such service", p.what, w)})
			}
		}
		if p.whole {
			found = append(found, p.lacking(line, words, services[p.of])...)
		}
		all = append(all, words...)
	}
	if !p.whole {
		found = append(found, p.lacking(0, all, services[p.of])...)
	}
	return found
}

func (p place) lacking(line int, words, services []string) []Violation {
	var found []Violation
	for _, s := range services {
		if !slices.ContainsFunc(words, func(w string) bool { return names(w, s) }) {
			found = append(found, Violation{p.file, line, fmt.Sprintf("%s lacks %s; see %s", p.what, s, placesPage)})
		}
	}
	return found
}

// names is whether a word names the service: order-svc, order, orders or orderSvc.
func names(word, service string) bool {
	short := strings.TrimSuffix(service, "-svc")
	return slices.Contains([]string{service, short, short + "s", short + "Svc"}, word)
}

// text is what a file holds; nothing when there is none.
func (t Tree) text(name string) string {
	for _, f := range t.Files {
		if f.Path == name {
			return f.Text
		}
	}
	return ""
}
