package tidy

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// policy says what the code of each package may import of this module, tests
// left out. The first line that fits a package counts; a package that fits none
// is an error, so that a new one finds its place here first. "own/" stands for
// the service the package belongs to.
//
// Do not change a line to make a build pass: the direction of the arrows is the
// architecture. What cannot be said here Go says itself, by its internal folders
// and by not letting anybody import a command.
const policy = `
migrations             :
shared/event           :
shared/fault           :
shared/failpoint       :
shared/retry           :
shared/lifecycle       :
shared/config          :
shared/telemetry       :
shared/tracing         :
shared/contract        : shared/event
shared/postgres        : shared/fault
shared/migrate         :
shared/broker          : shared/event
shared/identity        :
shared/httpapi         : shared/fault shared/identity shared/tracing
shared/registry        : shared/fault
shared/outbox          : shared/event shared/postgres shared/tracing
shared/inbox           : shared/event shared/fault shared/postgres
shared/relay           : shared/broker shared/event shared/failpoint shared/postgres shared/tracing
shared/parked          : shared/event shared/fault shared/httpapi shared/inbox shared/postgres shared/relay
shared/react           : shared/broker shared/event shared/failpoint shared/fault shared/inbox shared/outbox shared/postgres shared/tracing
shared/replay          : shared/broker shared/event shared/fault shared/postgres shared/relay
shared/story           : shared/broker shared/event shared/inbox shared/postgres
shared/service         : migrations shared/broker shared/config shared/event shared/failpoint shared/fault shared/httpapi shared/identity shared/inbox shared/lifecycle shared/migrate shared/outbox shared/parked shared/postgres shared/react shared/registry shared/relay shared/story shared/telemetry shared/tracing

shared/pgtest          : internal/devstack migrations shared/migrate shared/postgres
shared/brokertest      : internal/await internal/devstack shared/broker shared/event
shared/sagatest        : shared/broker shared/event shared/fault shared/inbox shared/outbox shared/postgres shared/react

payment-svc/internal/provider :
payment-svc/internal/payment  : own/internal/provider shared/contract shared/event shared/failpoint shared/fault shared/postgres shared/retry shared/tracing
gateway-svc/internal/* : own/internal/* shared/broker shared/contract shared/event shared/failpoint shared/fault shared/httpapi shared/identity shared/registry shared/tracing
*-svc/internal/api     : own/internal/* shared/contract shared/event shared/fault shared/httpapi shared/identity shared/postgres
*-svc/internal/*       : shared/contract shared/event shared/failpoint shared/fault shared/postgres shared/retry shared/tracing
gateway-svc            : own/internal/* docs shared/config shared/contract shared/service
*-svc                  : own/internal/* migrations shared/config shared/contract shared/fault shared/react shared/service

internal/devstack      :
internal/teststack     : internal/devstack
internal/await         :
internal/leaks         :
internal/otlp          :
internal/demo          : internal/await internal/transcript
internal/transcript    :
internal/faultproxy    :
internal/logcut        :
internal/proc          :
internal/providersim   :
internal/audit         : shared/broker shared/contract shared/event shared/postgres
internal/catalog       : shared/config shared/contract shared/event shared/service
internal/catalog/*     : internal/catalog
internal/tidy          : internal/catalog
cmd/*                  : cmd/*/internal/* internal/audit internal/devstack internal/providersim shared/broker shared/config shared/contract shared/event shared/fault shared/identity shared/inbox shared/lifecycle shared/migrate shared/parked shared/postgres shared/relay shared/replay shared/service shared/story shared/telemetry
cmd/*/internal/*       : cmd/*/internal/* internal/audit internal/devstack internal/faultproxy internal/proc internal/providersim migrations shared/broker shared/contract shared/event shared/fault shared/identity shared/inbox shared/lifecycle shared/postgres shared/relay shared/story
proof/controls         :
bench                  : internal/devstack internal/proc migrations shared/broker shared/event shared/lifecycle shared/migrate shared/outbox shared/postgres shared/react shared/relay
docs                   :

proof/search           :
proof/search/replay    : proof/search shared/broker shared/contract shared/event shared/inbox shared/outbox shared/postgres shared/react
`

// confinement says which packages alone may import a module of others, tests
// included. _test stands for every test. bench measures what others build with
// kafka-go as it comes, beside what shared/broker makes of it.
const confinement = `
github.com/lib/pq                          : shared/postgres
github.com/segmentio/kafka-go              : shared/broker bench
github.com/kelseyhightower/envconfig       : shared/config
github.com/twmb/franz-go                   : shared/brokertest internal/devstack internal/faultproxy proof/access
github.com/fergusstrange/embedded-postgres : internal/devstack
github.com/pressly/goose                   : shared/migrate
github.com/hashicorp/memberlist            : shared/registry
github.com/golang-jwt/jwt                 : shared/identity gateway-svc/internal/access cmd/pavane/internal/authority _test
github.com/MicahParks/jwkset               : gateway-svc/internal/access
github.com/wneessen/go-mail                : notification-svc/internal/notification _test
github.com/spf13/cobra                     : cmd/pavane
go.opentelemetry.io/otel/sdk               : shared/telemetry _test
go.opentelemetry.io/otel/exporters         : shared/telemetry
go.opentelemetry.io/otel                   : shared/telemetry shared/tracing _test
go.opentelemetry.io/proto                  : shared/telemetry internal/otlp _test
go.uber.org/goleak                         : internal/leaks _test
pgregory.net/rapid                         : _test
github.com/chromedp                        : _test
github.com/cloudevents                     : _test
github.com/santhosh-tekuri/jsonschema      : _test
`

func importRules() []Rule {
	return []Rule{
		{"imports follow the policy", findImports},
		{"modules of others stay where they belong", findConfined},
	}
}

func findImports(t Tree) []Violation {
	lines := parsePolicy(policy)
	var found []Violation
	for _, s := range t.production() {
		allowed, ok := allowedFor(lines, s.Dir)
		if !ok {
			found = append(found, t.at(s, s.AST, "package %s has no line in the policy of internal/tidy/imports.go; add it", s.Dir))
			continue
		}
		for _, spec := range s.AST.Imports {
			to, inside := strings.CutPrefix(imported(spec.Path.Value), Module+"/")
			if !inside || slices.ContainsFunc(allowed, func(pattern string) bool { return match(ownService(pattern, s.Dir), to) }) {
				continue
			}
			found = append(found, t.at(s, spec, "%s may not import %s; declare what it needs as an interface, or move the code to who may", s.Dir, to))
		}
	}
	return found
}

func findConfined(t Tree) []Violation {
	var found []Violation
	for _, s := range t.Go {
		for _, spec := range s.AST.Imports {
			name := imported(spec.Path.Value)
			for _, line := range parsePolicy(confinement) {
				if name != line.subject && !strings.HasPrefix(name, line.subject+"/") {
					continue
				}
				if !slices.Contains(line.objects, s.Dir) && !(s.Test && slices.Contains(line.objects, "_test")) {
					found = append(found, t.at(s, spec, "only %s may import %s; use what it offers", strings.Join(line.objects, ", "), line.subject))
				}
			}
		}
	}
	return found
}

type policyLine struct {
	subject string
	objects []string
}

func parsePolicy(text string) []policyLine {
	var lines []policyLine
	for line := range strings.Lines(text) {
		if subject, objects, ok := strings.Cut(line, ":"); ok {
			lines = append(lines, policyLine{strings.TrimSpace(subject), strings.Fields(objects)})
		}
	}
	return lines
}

func allowedFor(lines []policyLine, dir string) ([]string, bool) {
	for _, l := range lines {
		if match(l.subject, dir) {
			return l.objects, true
		}
	}
	return nil, false
}

// ownService puts the service that dir belongs to in place of "own".
func ownService(pattern, dir string) string {
	if rest, ok := strings.CutPrefix(pattern, "own/"); ok {
		service, _, _ := strings.Cut(dir, "/")
		return path.Join(service, rest)
	}
	return pattern
}

func imported(literal string) string {
	name, err := strconv.Unquote(literal)
	if err != nil {
		return literal
	}
	return name
}
