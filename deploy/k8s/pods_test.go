package k8s_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"pavane/shared/lifecycle"
)

// allowed is one rule of a NetworkPolicy.
type allowed struct {
	From  []peer `yaml:"from"`
	To    []peer `yaml:"to"`
	Ports []struct {
		Port string `yaml:"port"`
	} `yaml:"ports"`
}

type peer struct {
	NamespaceSelector struct {
		Expressions []struct {
			Values []string `yaml:"values"`
		} `yaml:"matchExpressions"`
	} `yaml:"namespaceSelector"`
	IPBlock struct {
		CIDR string `yaml:"cidr"`
	} `yaml:"ipBlock"`
}

// leads tells whether rules allow a port of a namespace; anywhere is that of the
// world outside of the cluster.
func leads(rules []allowed, namespace, port string) bool {
	for _, r := range rules {
		to := slices.ContainsFunc(slices.Concat(r.From, r.To), func(p peer) bool {
			if namespace == anywhere {
				return p.IPBlock.CIDR == "0.0.0.0/0"
			}
			e := p.NamespaceSelector.Expressions
			return len(e) == 1 && slices.Contains(e[0].Values, namespace)
		})
		for _, p := range r.Ports {
			if to && p.Port == port {
				return true
			}
		}
	}
	return false
}

const anywhere = ""

// rule is one of an Ingress.
type rule struct {
	HTTP struct {
		Paths []struct {
			Path     string `yaml:"path"`
			PathType string `yaml:"pathType"`
			Backend  struct {
				Service struct {
					Name string `yaml:"name"`
					Port struct {
						Name string `yaml:"name"`
					} `yaml:"port"`
				} `yaml:"service"`
			} `yaml:"backend"`
		} `yaml:"paths"`
	} `yaml:"http"`
}

// workloads are the Deployments and Jobs of all overlays, by name.
func workloads(t *testing.T) map[string]object {
	t.Helper()
	found := map[string]object{}
	for _, dir := range []string{"overlays/relays-apart", "overlays/migrate"} {
		for _, o := range build(t, dir) {
			if len(o.Spec.Template.Spec.Containers) > 0 {
				found[o.Metadata.Name] = o
			}
		}
	}
	if len(found) < 13 {
		t.Fatalf("only %d workloads", len(found))
	}
	return found
}

// text returns a file of the repository.
func text(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRelay_RunsWithTheArgumentsOfItsPod(t *testing.T) {
	t.Parallel()
	read(t)
	binary := filepath.Join(t.TempDir(), "pavane")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/pavane").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	for name, o := range workloads(t) {
		service, apart := strings.CutSuffix(name, "-relay")
		if !apart {
			continue
		}
		// Without a database it ends at once, when it has taken its arguments.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, binary, o.Spec.Template.Spec.Containers[0].Args...)
		cmd.Env = []string{"PAVANE_REGISTRY_KUBERNETES=pavane.test:8080"}
		out, err := cmd.CombinedOutput()
		cancel()
		if want := service + ": PAVANE_DATABASE is not set"; err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: pavane %q: %v: %s; want %q", name, cmd.Args[1:], err, out, want)
		}
	}
}

func TestRelay_HasAllItNeeds(t *testing.T) {
	t.Parallel()
	read(t)
	all := build(t, "overlays/relays-apart")
	for service, database := range services(t) {
		if !database {
			continue
		}
		name := service + "-relay"
		for _, kind := range []string{"Deployment", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"} {
			if _, ok := all[kind+"/"+name]; !ok {
				t.Errorf("%s has no %s", name, kind)
			}
		}
		o := all["Deployment/"+name]
		pod := o.Spec.Template.Spec
		if pod.Account != name {
			t.Errorf("%s runs as %q", name, pod.Account)
		}
		if o.Spec.Replicas == nil || *o.Spec.Replicas < 2 {
			t.Errorf("%s: nobody takes over, and its PodDisruptionBudget lets all go", name)
		}
		if got := pod.Volumes[0].Secret.SecretName; got != service {
			t.Errorf("%s gets the secrets of %q, not of its service", name, got)
		}
		if grace := time.Duration(pod.Grace) * time.Second; grace < lifecycle.StopWithin+2*time.Second {
			t.Errorf("%s is killed after %s, though it may need %s", name, grace, lifecycle.StopWithin)
		}
	}
}

func TestPods_AreAskedAndScrapedWhereTheyListen(t *testing.T) {
	t.Parallel()
	read(t)
	for name, o := range workloads(t) {
		if o.Kind == "Job" {
			continue
		}
		app := o.Spec.Template.Spec.Containers[0]
		port := app.Ports[0]
		if got := o.Spec.Template.Metadata.Annotations["prometheus.io/port"]; got != strconv.Itoa(port.ContainerPort) {
			t.Errorf("%s is scraped at %s, and listens on %d", name, got, port.ContainerPort)
		}
		if _, listens, _ := strings.Cut(app.env("PAVANE_HTTP_ADDR"), ":"); listens != strconv.Itoa(port.ContainerPort) {
			t.Errorf("%s listens on %s, and its pod names %d", name, listens, port.ContainerPort)
		}
		for path, p := range map[string]probe{"/livez": app.Liveness, "/readyz": app.Readiness} {
			if p.HTTPGet.Path != path || p.HTTPGet.Port != port.Name {
				t.Errorf("%s is asked for %v, want %s at %s", name, p.HTTPGet, path, port.Name)
			}
		}
	}
}

func TestPrincipals_AreThoseWithRightsInKafka(t *testing.T) {
	t.Parallel()
	read(t)
	granted := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^grant +("[^"$]+"|[a-z-]+) `).FindAllStringSubmatch(text(t, "deploy/kafka/acls.sh"), -1) {
		for who := range strings.FieldsSeq(strings.Trim(m[1], `"`)) {
			granted[who] = true
		}
	}
	if !granted["audit"] || !granted["order-svc"] || !granted["migrate"] {
		t.Fatalf("acls.sh grants rights to %v, which cannot be all", granted)
	}
	for name, o := range workloads(t) {
		want := strings.TrimSuffix(name, "-relay")
		if o.Kind == "Job" {
			want = "migrate"
		}
		app := o.Spec.Template.Spec.Containers[0]
		i := slices.IndexFunc(app.Env, func(v variable) bool { return v.Name == "PAVANE_KAFKA_USER" })
		if i < 0 {
			t.Errorf("%s has no user for Kafka", name)
			continue
		}
		path := app.Env[i].ValueFrom.FieldRef.FieldPath
		label := strings.TrimSuffix(strings.TrimPrefix(path, "metadata.labels['"), "']")
		if user := o.Spec.Template.Metadata.Labels[label]; user != want || !granted[user] {
			t.Errorf("%s logs in to Kafka as %q (%s), want %s; acls.sh names it: %v", name, user, path, want, granted[user])
		}
	}
}

// documented are the keys of each Secret by the table in docs/operations.md.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	_, table, _ := strings.Cut(text(t, "docs/operations.md"), "| Secret | keys |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	words := regexp.MustCompile("`([^`]+)`")
	found := map[string][]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) != 4 {
			t.Fatalf("the table of secrets has a row of another form: %q", row)
		}
		for _, secret := range words.FindAllStringSubmatch(cells[1], -1) {
			for _, key := range words.FindAllStringSubmatch(cells[2], -1) {
				found[secret[1]] = append(found[secret[1]], key[1])
			}
		}
	}
	return found
}

func TestSecrets_AreThoseThatOperationsNames(t *testing.T) {
	t.Parallel()
	read(t)
	used := map[string]map[string]bool{}
	for _, o := range workloads(t) {
		secret := o.Spec.Template.Spec.Volumes[0].Secret.SecretName
		if used[secret] == nil {
			used[secret] = map[string]bool{}
		}
		for _, e := range o.Spec.Template.Spec.Containers[0].Env {
			if strings.HasSuffix(e.Name, "_FILE") {
				used[secret][path.Base(e.Value)] = true
			}
		}
	}
	named := documented(t)
	for secret, keys := range used {
		for key := range keys {
			if !slices.Contains(named[secret], key) {
				t.Errorf("operations.md does not say that the Secret %s has %s", secret, key)
			}
		}
		for _, key := range named[secret] {
			if !keys[key] {
				t.Errorf("operations.md names %s of the Secret %s, and no pod reads it", key, secret)
			}
		}
	}
	if !strings.Contains(text(t, "docs/operations.md"), "`kafka-password` of a `*-migrate` Secret is that of the user `migrate`") {
		t.Error("operations.md does not say whose password the migrations have")
	}
}

func TestNamespace_IsTheOnlyOneThatTheManifestTouches(t *testing.T) {
	t.Parallel()
	read(t)
	const file = "deploy/k8s/overlays/whole/namespace.yaml"
	for d := yaml.NewDecoder(strings.NewReader(text(t, file))); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if o.Kind != "Namespace" && o.Metadata.Namespace != "pavane" {
			t.Errorf("%s %s is for the namespace %q: kubectl apply -f puts it into whatever namespace is chosen", o.Kind, o.Metadata.Name, o.Metadata.Namespace)
		}
	}
	operations := text(t, "docs/operations.md")
	made, used := strings.Index(operations, "kubectl apply -f "+file), strings.Index(operations, "kubectl -n pavane")
	if made < 0 || used < made {
		t.Errorf("operations.md uses the namespace (at %d) before it makes it (at %d)", used, made)
	}
}

func TestNetwork_LeadsWhereThePodIsTold(t *testing.T) {
	t.Parallel()
	read(t)
	policies := build(t, "overlays/relays-apart")
	for name, o := range build(t, "overlays/migrate") {
		policies[name] = o
	}
	for name, o := range workloads(t) {
		app, policy := o.Spec.Template.Spec.Containers[0], policies["NetworkPolicy/"+name].Spec
		must := func(namespace, port, why string) {
			if !leads(policy.Egress, namespace, port) {
				t.Errorf("%s does not come to port %s of the namespace %q: %s", name, port, namespace, why)
			}
		}
		must("kube-system", "53", "DNS")
		host, port, err := net.SplitHostPort(app.env("PAVANE_BROKERS"))
		if labels := strings.Split(host, "."); err != nil || len(labels) < 2 {
			t.Errorf("%s: PAVANE_BROKERS=%s", name, app.env("PAVANE_BROKERS"))
		} else {
			must(labels[1], port, "Kafka")
		}
		if app.env("PAVANE_DATABASE_FILE") != "" {
			must("postgres", "5432", "its database")
		}
		if o.Kind == "Deployment" && !leads(policy.Ingress, "monitoring", app.Ports[0].Name) {
			t.Errorf("nobody scrapes %s", name)
		}
		switch name {
		case "notification-svc":
			_, port, err := net.SplitHostPort(app.env("PAVANE_SMTP_ADDR"))
			if err != nil {
				t.Errorf("%s is never ready without a mail server: %v", name, err)
			}
			must(anywhere, port, "the mail server")
		case "payment-svc":
			if u, err := url.Parse(app.env("PAVANE_PROVIDER_URL")); err != nil || u.Scheme != "https" || u.Port() != "" {
				t.Errorf("%s declines every card: PAVANE_PROVIDER_URL=%s: %v", name, u, err)
			}
			must(anywhere, "443", "the card provider")
		}
	}
}

// The component is for whoever wants it, so that no pod may call the world without.
func TestWebhook_Component_BringsTheWayToItsReceiver(t *testing.T) {
	t.Parallel()
	read(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	to, err := filepath.Rel(dir, here)
	if err != nil {
		t.Fatal(err)
	}
	overlay := fmt.Sprintf("resources: [%s/overlays/whole]\ncomponents: [%[1]s/components/webhook]\n", filepath.ToSlash(to))
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(overlay), 0o600); err != nil {
		t.Fatal(err)
	}
	const name = "notification-svc"
	without, with := build(t, "overlays/whole"), build(t, dir)
	if leads(without["NetworkPolicy/"+name].Spec.Egress, anywhere, "443") {
		t.Errorf("%s may call the world without the component", name)
	}
	if !leads(with["NetworkPolicy/"+name].Spec.Egress, anywhere, "443") {
		t.Errorf("%s does not come to the receiver of its webhooks", name)
	}
	app := with["Deployment/"+name].Spec.Template.Spec.Containers[0]
	if u, err := url.Parse(app.env("PAVANE_WEBHOOK_URL")); err != nil || u.Scheme != "https" || u.Port() != "" {
		t.Errorf("%s: PAVANE_WEBHOOK_URL=%s, want https and its port: %v", name, u, err)
	}
	if file := app.env("PAVANE_WEBHOOK_KEY_FILE"); file != "/run/secrets/pavane/webhook-key" {
		t.Errorf("%s: PAVANE_WEBHOOK_KEY_FILE=%s, want that of its Secret", name, file)
	}
	if !strings.Contains(text(t, "docs/operations.md"), "With `components/webhook` the Secret `notification-svc` has `webhook-key`, too") {
		t.Error("operations.md does not say which key the component needs")
	}
}

func TestMemory_LeavesRoomBetweenGosLimitAndTheKernels(t *testing.T) {
	t.Parallel()
	read(t)
	for name, o := range workloads(t) {
		app := o.Spec.Template.Spec.Containers[0]
		soft, err := strconv.Atoi(strings.TrimSuffix(app.env("GOMEMLIMIT"), "MiB"))
		hard, err2 := strconv.Atoi(strings.TrimSuffix(app.Resources.Limits.Memory, "Mi"))
		if errors.Join(err, err2) != nil || soft*100 < hard*70 || soft*100 > hard*80 {
			t.Errorf("%s: GOMEMLIMIT=%s of a limit of %s, want 70 to 80 %% of it", name, app.env("GOMEMLIMIT"), app.Resources.Limits.Memory)
		}
	}
}

func TestIngress_LeadsToWhatIsForCallers_AndToNothingElse(t *testing.T) {
	t.Parallel()
	read(t)
	var ingress object
	if err := yaml.NewDecoder(bytes.NewReader([]byte(text(t, "deploy/k8s/components/ingress/ingress.yaml")))).Decode(&ingress); err != nil {
		t.Fatal(err)
	}
	public := build(t, "overlays/whole")["Service/gateway-public"]
	reached := func(path string) bool {
		for _, p := range ingress.Spec.Rules[0].HTTP.Paths {
			prefix := strings.TrimSuffix(p.Path, "/") + "/"
			if path == p.Path || p.PathType == "Prefix" && strings.HasPrefix(path, prefix) {
				return p.Backend.Service.Name == public.Metadata.Name && p.Backend.Service.Port.Name == public.Spec.Ports[0].Name
			}
		}
		return false
	}
	for path, want := range map[string]bool{
		"/": true, "/docs": true, "/page/1/page.js": true, "/openapi.json": true, "/asyncapi.json": true,
		"/v1/orders": true, "/v1/orders/1/events": true,
		"/metrics": false, "/readyz": false, "/livez": false, "/debug": false,
	} {
		if got := reached(path); got != want {
			t.Errorf("the Ingress leads %s to the gateway: %v, want %v", path, got, want)
		}
	}
}
