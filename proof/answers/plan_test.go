package answers_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"pavane/internal/faultproxy"
)

// What the clients of the lanes are given. The server's own limits follow from
// networkTimeout: it ends a transaction that is idle for twice as long.
const (
	networkTimeout = 2 * time.Second // of a connection to Postgres
	brokerTimeout  = 2 * time.Second // of a request to Kafka
	// hold is how long an answer or a request is late: the client has given up
	// and begun again by then.
	hold = networkTimeout + 500*time.Millisecond
	// groupHold is the same for the requests of a consumer group, for which the
	// kit waits longer.
	groupHold = 5*time.Second + 500*time.Millisecond
)

// kind is a kind of request and when it is made.
type kind struct {
	protocol faultproxy.Protocol
	name     string
	when     when
}

// when says what makes a request happen.
type when int

const (
	working  when = iota // it comes with the load
	starting             // when the service starts or stops
	fresh                // when it starts on an empty journal
)

// kinds are all requests of a service to Kafka and Postgres. A run that sees
// another one fails, so the list stays whole.
func kinds() []kind {
	const k, p = faultproxy.Kafka, faultproxy.Postgres
	return []kind{
		{k, "InitProducerID", fresh},
		{k, "ApiVersions", starting},
		{k, "Metadata", working},
		{k, "Produce", working},
		{k, "Fetch", working},
		{k, "Heartbeat", working},
		{k, "OffsetCommit", working},
		{k, "ListOffsets", starting},
		{k, "FindCoordinator", starting},
		{k, "JoinGroup", starting},
		{k, "SyncGroup", starting},
		{k, "OffsetFetch", starting},
		{k, "LeaveGroup", starting},
		{p, "CONNECT", starting},
		{p, "PREPARE", starting},
		{p, "BEGIN", working},
		{p, "COMMIT", working},
		{p, "ROLLBACK", working},
		{p, "SELECT", working},
		{p, "INSERT", working},
		{p, "UPDATE", working},
		{p, "WITH", working},
		{p, "DELETE", starting},
		{p, "SET", starting},
	}
}

func (k kind) hold() time.Duration {
	switch k.name {
	case "FindCoordinator", "JoinGroup", "SyncGroup", "OffsetFetch", "OffsetCommit", "Heartbeat", "LeaveGroup":
		return groupHold
	}
	return hold
}

// attempt is one fault at one request.
type attempt struct {
	kind
	k     int
	fault faultproxy.Fault
}

func (a attempt) String() string { return fmt.Sprintf("%s of %s %d", a.fault, a.name, a.k) }

// plan deals the attempts out to lanes, at random but the same each time. What
// needs an empty journal comes first in its lane.
func plan(s size) [][]attempt {
	var begin, rest []attempt
	for i, k := range kinds() {
		faults := faultproxy.Faults()
		if s.rounds == 0 && k.name != "Produce" && k.name != "COMMIT" {
			faults = []faultproxy.Fault{faults[i%len(faults)], faults[(i+2)%len(faults)]}
		}
		for n := range max(s.rounds, 1) {
			for _, f := range faults {
				if k.when == fresh {
					begin = append(begin, attempt{k, 1, f})
				} else {
					rest = append(rest, attempt{k, n + 1, f})
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(4, 2))
	rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	lanes := make([][]attempt, max(s.lanes, len(begin)))
	for i, a := range append(begin, rest...) {
		lanes[i%len(lanes)] = append(lanes[i%len(lanes)], a)
	}
	return lanes
}

// tally counts what the lanes saw.
type tally struct {
	mu     sync.Mutex
	struck map[string]map[faultproxy.Fault]int
	seen   map[string]int
	events int
}

func newTally() *tally {
	return &tally{struck: map[string]map[faultproxy.Fault]int{}, seen: map[string]int{}}
}

func (y *tally) strike(a attempt) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.struck[a.name] == nil {
		y.struck[a.name] = map[faultproxy.Fault]int{}
	}
	y.struck[a.name][a.fault]++
}

func (y *tally) add(events int, seen ...map[string]int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.events += events
	for _, of := range seen {
		for kind, n := range of {
			y.seen[kind] += n
		}
	}
}

// table is kind × fault × how often it struck, and how many requests there were.
func (y *tally) table() (text string, total int) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "request\t")
	for _, f := range faultproxy.Faults() {
		fmt.Fprintf(w, "%s\t", f)
	}
	fmt.Fprintln(w, "of\t")
	for _, k := range kinds() {
		fmt.Fprintf(w, "%s\t", k.name)
		for _, f := range faultproxy.Faults() {
			fmt.Fprintf(w, "%d\t", y.struck[k.name][f])
			total += y.struck[k.name][f]
		}
		fmt.Fprintf(w, "%d\t\n", y.seen[k.name])
	}
	_ = w.Flush() // into memory
	return b.String(), total
}

// unlisted are the kinds of requests that came and that no fault is planned for.
func (y *tally) unlisted() (names []string) {
	for name := range y.seen {
		if !slices.ContainsFunc(kinds(), func(k kind) bool { return k.name == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestPlan_EveryFaultAtEveryKind_IsInIt(t *testing.T) {
	t.Parallel()
	count := map[string]int{}
	lanes := plan(ciSize())
	total := 0
	for _, lane := range lanes {
		for i, a := range lane {
			count[a.name+" "+string(a.fault)]++
			total++
			if a.when == fresh && i != 0 {
				t.Errorf("%s is not the first of its lane", a)
			}
		}
	}
	if want := 500; total < want || len(count) != len(kinds())*len(faultproxy.Faults()) {
		t.Errorf("%d attempts of %d combinations; want at least %d of %d", total, len(count), want, len(kinds())*len(faultproxy.Faults()))
	}
}
