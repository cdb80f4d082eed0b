package e2e_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// point is a failpoint and the rule that says which processes pass it on which
// paths of the saga. What the rule names must be reached: a point that is not is
// a failure of the run.
type point struct {
	name     string
	services []string            // that pass it
	paths    func(sagaPath) bool // on which they do; nil: on all
	start    bool                // passed once in the life of a process, when it starts
	late     bool                // passed some time after the saga has ended
	first    string              // what must go wrong before it, as a failpoint
	relay    bool                // no path of the saga leads there; [TestCrashRelay] does
}

// points are all failpoints of kit and services.
func points() []point {
	consume, publish := services()[:4], services()[:3]
	order, mail, stock, gate := []string{"order-svc"}, []string{"notification-svc"}, []string{"inventory-svc"}, []string{"gateway-svc"}
	money := []string{"payment-svc"}
	byCard := func(p sagaPath) bool { return p.card != "" }
	byCustomer := func(p sagaPath) bool { return p.act == cancels }
	byDeadline := func(p sagaPath) bool { return p.act == expires }
	parks := func(p sagaPath) bool { return p.act == faults }
	var all []point
	add := func(p point, names ...string) {
		for _, name := range names {
			p.name = name
			all = append(all, p)
		}
	}
	// The request.
	add(point{services: gate}, "gateway.before_call", "gateway.after_call")
	add(point{services: order}, "order.before_place", "order.after_place")
	add(point{services: order, paths: byCustomer}, "order.before_cancel", "order.after_cancel")
	add(point{services: order, paths: byDeadline}, "order.before_deadline", "order.after_deadline")
	add(point{services: order, paths: byDeadline, first: "order.before_deadline=error"}, "order.before_put_off", "order.after_put_off")
	// The relay. What a path publishes, the rule for services says.
	add(point{services: consume, start: true}, "relay.before_adopt", "relay.after_adopt", "relay.before_rotate", "relay.after_rotate")
	add(point{services: publish}, "relay.before_plan", "relay.after_plan", "relay.before_send", "relay.after_ack", "relay.before_mark", "relay.after_mark")
	add(point{relay: true}, "relay.before_cut", "relay.after_cut", "relay.before_piece", "relay.after_piece", "relay.after_step",
		"relay.before_park", "relay.after_park", "relay.before_heal", "relay.after_heal", "relay.before_epoch", "relay.after_epoch")
	// The consumer.
	add(point{services: consume, start: true}, "inbox.before_begin", "inbox.after_begin")
	add(point{services: consume}, "inbox.before_handlers", "inbox.after_handlers", "inbox.before_commit", "inbox.after_commit")
	add(point{services: consume, late: true}, "inbox.before_offset_commit", "inbox.after_offset_commit")
	add(point{services: stock, paths: parks}, "inbox.before_park", "inbox.after_park", "inbox.before_hold", "inbox.after_hold",
		"inbox.before_replay", "inbox.after_replay")
	// The calls outside of any transaction.
	add(point{services: money, paths: byCard}, "card.before_claim", "card.after_claim", "card.before_call", "card.after_call",
		"card.before_record", "card.after_record")
	add(point{services: money, paths: byCard, first: "card.before_call=error"}, "card.before_put_off", "card.after_put_off")
	add(point{services: mail}, "message.before_claim", "message.after_claim", "message.before_send", "message.after_send", "message.after_note")
	add(point{services: mail, first: "message.before_send=error"}, "message.before_give_back", "message.after_give_back")
	return all
}

// at tells whether the service must pass the point on the path.
func (p point) at(path sagaPath, service string) bool {
	if p.relay || !slices.Contains(p.services, service) || p.paths != nil && !p.paths(path) {
		return false
	}
	if strings.HasPrefix(p.name, "relay.") && !p.start {
		return service == "order-svc" || slices.Contains(path.publish, service)
	}
	return true
}

// Every failpoint in the code is in the matrix, and the other way round.
func TestCrashMatrix_KnowsEveryFailpointInTheCode(t *testing.T) {
	t.Parallel()
	inCode := map[string]bool{}
	name := regexp.MustCompile(`^[a-z]+\.(before|after)_[a-z_]+$`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "failpoint") && !strings.Contains(path, "shared/react") && !strings.Contains(path, "-svc") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && name.MatchString(s) {
					inCode[s] = true
				}
			}
			return true
		})
		return nil
	})
	must(t, err)
	inMatrix := map[string]bool{}
	for _, p := range points() {
		if inMatrix[p.name] {
			t.Errorf("%s is twice in the matrix", p.name)
		}
		inMatrix[p.name] = true
		if !inCode[p.name] {
			t.Errorf("%s is in the matrix and not in the code", p.name)
		}
	}
	for name := range inCode {
		if !inMatrix[name] {
			t.Errorf("%s is in the code and not in the matrix: nobody dies there", name)
		}
	}
	if len(inCode) < 40 {
		t.Errorf("only %d failpoints were found in the code", len(inCode))
	}
}
