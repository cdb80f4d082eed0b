// Package k8s_test holds the manifests beside it to what the services can do:
// their variables, ports and times.
package k8s_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
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

// object is what these tests read of a manifest.
type object struct {
	Kind     string `yaml:"kind"`
	Metadata struct {
		Name      string            `yaml:"name"`
		Namespace string            `yaml:"namespace"`
		Labels    map[string]string `yaml:"labels"`
	} `yaml:"metadata"`
	Spec spec `yaml:"spec"`
}

type spec struct {
	Template    template       `yaml:"template"`
	Selector    map[string]any `yaml:"selector"`
	PodSelector map[string]any `yaml:"podSelector"`
	ClusterIP   string         `yaml:"clusterIP"`
	Ports       []port         `yaml:"ports"`
	MaxReplicas int            `yaml:"maxReplicas"`
	ScaleTarget named          `yaml:"scaleTargetRef"`
	Replicas    *int           `yaml:"replicas"`
	Ingress     []allowed      `yaml:"ingress"`
	Egress      []allowed      `yaml:"egress"`
	Rules       []rule         `yaml:"rules"`
}

type named struct {
	Name string `yaml:"name"`
}

type port struct {
	Name          string `yaml:"name"`
	Port          int    `yaml:"port"`
	TargetPort    string `yaml:"targetPort"`
	ContainerPort int    `yaml:"containerPort"`
}

type template struct {
	Metadata struct {
		Labels      map[string]string `yaml:"labels"`
		Annotations map[string]string `yaml:"annotations"`
	} `yaml:"metadata"`
	Spec struct {
		Grace      int         `yaml:"terminationGracePeriodSeconds"`
		Account    string      `yaml:"serviceAccountName"`
		Containers []container `yaml:"containers"`
		Volumes    []struct {
			Secret struct {
				SecretName string `yaml:"secretName"`
			} `yaml:"secret"`
		} `yaml:"volumes"`
		Spread []struct {
			LabelSelector map[string]any `yaml:"labelSelector"`
		} `yaml:"topologySpreadConstraints"`
	} `yaml:"spec"`
}

type container struct {
	Name      string     `yaml:"name"`
	Image     string     `yaml:"image"`
	Args      []string   `yaml:"args"`
	Ports     []port     `yaml:"ports"`
	Env       []variable `yaml:"env"`
	Resources struct {
		Limits struct {
			Memory string `yaml:"memory"`
		} `yaml:"limits"`
	} `yaml:"resources"`
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Lifecycle struct {
		PreStop struct {
			Sleep struct {
				Seconds int `yaml:"seconds"`
			} `yaml:"sleep"`
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
}

type variable struct {
	Name      string `yaml:"name"`
	Value     string `yaml:"value"`
	ValueFrom struct {
		FieldRef struct {
			FieldPath string `yaml:"fieldPath"`
		} `yaml:"fieldRef"`
	} `yaml:"valueFrom"`
}

type probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
}

func (c container) env(name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// build returns what kustomize makes of a folder, by kind and name.
func build(t *testing.T, dir string) map[string]object {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../../tools/go.mod", "kustomize", "build", dir)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kustomize build %s: %v: %s", dir, err, errs.String())
	}
	all := map[string]object{}
	for d := yaml.NewDecoder(bytes.NewReader(out)); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		all[o.Kind+"/"+o.Metadata.Name] = o
	}
}

// services are the folders of the services, and whether each has a database.
func services(t *testing.T) map[string]bool {
	t.Helper()
	mains, err := filepath.Glob("../../*-svc/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("no service: %v", err)
	}
	found := map[string]bool{}
	for _, path := range mains {
		name := filepath.Base(filepath.Dir(path))
		_, err := os.Stat("../../migrations/" + strings.TrimSuffix(name, "-svc"))
		found[name] = err == nil
	}
	return found
}

// read opens every file that a child process reads, so that go test sees when
// one has changed.
func read(t *testing.T) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhole_EveryService_HasAllItNeeds(t *testing.T) {
	t.Parallel()
	read(t)
	whole, migrate := build(t, "overlays/whole"), build(t, "overlays/migrate")
	for service, database := range services(t) {
		for _, kind := range []string{"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"} {
			if _, ok := whole[kind+"/"+service]; !ok {
				t.Errorf("%s has no %s", service, kind)
			}
		}
		d := whole["Deployment/"+service]
		app := d.Spec.Template.Spec.Containers[0]
		if want := "pavane/" + service + ":"; !strings.HasPrefix(app.Image, want) {
			t.Errorf("%s runs %s, want %s and a tag", service, app.Image, want)
		}
		if got := d.Spec.Template.Spec.Account; got != service {
			t.Errorf("%s runs as %q", service, got)
		}
		if got := d.Spec.Template.Spec.Volumes[0].Secret.SecretName; got != service {
			t.Errorf("%s gets the secrets of %q", service, got)
		}
		if s := whole["Service/"+service].Spec; s.ClusterIP != "None" {
			t.Errorf("the Service of %s is not headless: the registry would see one address", service)
		}
		if d.Spec.Replicas != nil {
			t.Errorf("%s says how many replicas it has, which undoes what the autoscaler decided", service)
		}
		if target := whole["HorizontalPodAutoscaler/"+service].Spec.ScaleTarget.Name; target != service {
			t.Errorf("the autoscaler of %s scales %s", service, target)
		}
		job, ok := migrate["Job/"+service+"-migrate"]
		if ok != database {
			t.Errorf("%s has a database: %v, and a Job for its migrations: %v", service, database, ok)
		}
		if !ok {
			continue
		}
		runs := job.Spec.Template.Spec
		if app := runs.Containers[0]; !slices.Equal(app.Args, []string{"-migrate"}) || !strings.HasPrefix(app.Image, "pavane/"+service+":") {
			t.Errorf("the Job of %s runs %s %q", service, app.Image, app.Args)
		}
		if got := runs.Volumes[0].Secret.SecretName; got != service+"-migrate" {
			t.Errorf("the Job of %s gets the secrets of %q", service, got)
		}
		if app.env("PAVANE_MIGRATE") != "false" {
			t.Errorf("%s migrates by itself, though its role may not", service)
		}
	}
}

func TestSelectors_MeanThePodsOfTheirOwnName(t *testing.T) {
	t.Parallel()
	read(t)
	const label = "app.kubernetes.io/name"
	for _, dir := range []string{"overlays/relays-apart", "overlays/migrate"} {
		all := build(t, dir)
		for _, o := range all {
			own := o.Metadata.Labels[label]
			var selectors []map[string]any
			switch o.Kind {
			case "Deployment", "PodDisruptionBudget":
				selectors = append(selectors, matchLabels(o.Spec.Selector))
			case "Service":
				selectors = append(selectors, o.Spec.Selector)
			case "NetworkPolicy":
				if o.Metadata.Name == "default-deny" {
					continue // all pods
				}
				selectors = append(selectors, matchLabels(o.Spec.PodSelector))
			}
			for _, spread := range o.Spec.Template.Spec.Spread {
				selectors = append(selectors, matchLabels(spread.LabelSelector))
			}
			for _, s := range selectors {
				if len(s) != 1 || s[label] != own {
					t.Errorf("%s: %s %s selects %v, want only %s: %s", dir, o.Kind, o.Metadata.Name, s, label, own)
				}
			}
			if pods := o.Spec.Template.Metadata.Labels; len(o.Spec.Template.Spec.Containers) > 0 && pods[label] != own {
				t.Errorf("%s: the pods of %s %s are labelled %v", dir, o.Kind, o.Metadata.Name, pods)
			}
		}
	}
}

func matchLabels(selector map[string]any) map[string]any {
	labels, _ := selector["matchLabels"].(map[string]any)
	return labels
}

func TestPorts_AreThoseTheServiceListensOn(t *testing.T) {
	t.Parallel()
	read(t)
	whole := build(t, "overlays/whole")
	for service := range services(t) {
		app := whole["Deployment/"+service].Spec.Template.Spec.Containers[0]
		_, listens, _ := strings.Cut(app.env("PAVANE_HTTP_ADDR"), ":")
		asked, registry, _ := strings.Cut(app.env("PAVANE_REGISTRY_KUBERNETES"), ":")
		if len(app.Ports) != 1 || strconv.Itoa(app.Ports[0].ContainerPort) != listens || registry != listens {
			t.Errorf("%s listens on %s, the pod names %v, the registry dials %s", service, listens, app.Ports, registry)
		}
		if asked != "pavane.svc.cluster.local" {
			t.Errorf("%s asks for the pods of %s, which is not the namespace of the overlay", service, asked)
		}
		for _, s := range []string{"Service/" + service, "Service/gateway-public"} {
			if p := whole[s].Spec.Ports; len(p) != 1 || p[0].TargetPort != app.Ports[0].Name {
				t.Errorf("%s leads to %v, want the port %s", s, p, app.Ports[0].Name)
			}
		}
	}
}

func TestTimes_FitTheServicesOwn(t *testing.T) {
	t.Parallel()
	read(t)
	whole := build(t, "overlays/whole")
	for service, database := range services(t) {
		pod := whole["Deployment/"+service].Spec.Template.Spec
		stop := time.Duration(pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds) * time.Second
		if grace := time.Duration(pod.Grace) * time.Second; stop < 7*time.Second || grace < stop+lifecycle.StopWithin+2*time.Second {
			t.Errorf("%s waits %s for callers to know and is killed after %s, though it may need %s more", service, stop, grace, lifecycle.StopWithin)
		}
		partitions, err := strconv.Atoi(pod.Containers[0].env("PAVANE_PARTITIONS"))
		if most := whole["HorizontalPodAutoscaler/"+service].Spec.MaxReplicas; database && (err != nil || most > partitions) {
			t.Errorf("%s scales to %d instances, but only %d can read (%v)", service, most, partitions, err)
		}
	}
}

// variables are those of a service by the README's generated table: the name,
// and whether it is a secret.
func variables(t *testing.T, service string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(PAVANE_[A-Z_]+)`( \\(or `…_FILE`\\))? \\| ([^|]+) \\|").FindAllStringSubmatch(string(text), -1)
	if len(rows) < 20 {
		t.Fatalf("only %d variables in the README", len(rows))
	}
	known := map[string]bool{}
	for _, r := range rows {
		if of := strings.Split(r[3], ", "); slices.Contains(of, "all") || slices.Contains(of, strings.TrimSuffix(service, "-svc")) {
			known[r[1]] = r[2] != ""
		}
	}
	return known
}

func TestVariables_AreReadByTheService_SecretsFromFiles(t *testing.T) {
	t.Parallel()
	read(t)
	pods := workloads(t)
	for service := range services(t) {
		known := variables(t, service)
		var env []variable
		for _, name := range []string{service, service + "-relay", service + "-migrate"} {
			for _, app := range pods[name].Spec.Template.Spec.Containers {
				env = append(env, app.Env...)
			}
		}
		for _, e := range env {
			if !strings.HasPrefix(e.Name, "PAVANE_") {
				continue
			}
			plain := strings.TrimSuffix(e.Name, "_FILE")
			secret, ok := known[e.Name]
			_, file := known[plain]
			switch {
			case ok && secret:
				t.Errorf("%s: %s stands in the environment: put it into a file and name that in %s_FILE", service, e.Name, e.Name)
			case !ok && !(file && known[plain]):
				t.Errorf("%s: %s is read by nobody", service, e.Name)
			}
			if strings.HasSuffix(e.Name, "_FILE") && !strings.HasPrefix(e.Value, "/run/secrets/pavane/") {
				t.Errorf("%s: %s=%s is not where the secrets are", service, e.Name, e.Value)
			}
		}
	}
}

func TestRelayApart_MovesEveryRelay(t *testing.T) {
	t.Parallel()
	read(t)
	all := build(t, "overlays/relays-apart")
	for service, database := range services(t) {
		own := all["Deployment/"+service].Spec.Template.Spec.Containers[0].env("PAVANE_RELAY")
		relay, ok := all["Deployment/"+service+"-relay"]
		if ok != database || (own == "false") != database {
			t.Errorf("%s: its own relay is %q, one apart: %v", service, own, ok)
		}
		if ok && !slices.Equal(relay.Spec.Template.Spec.Containers[0].Args, []string{"relay", service}) {
			t.Errorf("the relay of %s runs %q", service, relay.Spec.Template.Spec.Containers[0].Args)
		}
		if ok && relay.Spec.Template.Spec.Containers[0].env("PAVANE_BROKERS") == "" {
			t.Errorf("the relay of %s is not told where Kafka is", service)
		}
	}
}
