package e2e_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/shared/failpoint"
)

// What the environment may say of the matrix.
const (
	crashSizeEnv  = "PAVANE_CRASH"       // tiny (the default), ci, full
	crashCellsEnv = "PAVANE_CRASH_CELLS" // a pattern: only jobs with such a name, "confirmed/order-svc/relay.after_ack@1+1"
	crashJSONEnv  = "PAVANE_CRASH_JSON"  // a file for the matrix as JSON
	crashSeedEnv  = "PAVANE_CRASH_SEED"  // of the choice in size ci; 1 when empty
)

const (
	ciKills      = 300
	jobsPerRound = 2               // of a service
	settleLimit  = 2 * time.Minute // for the orders of a round, with up to ten deaths
	maxTravels   = 12              // of a round, until every point in it was reached
	lateLimit    = 4 * time.Second // for points that are passed after the saga's end
)

// job is what one process goes through in one round.
type job struct {
	path    sagaPath
	service string
	point   point
	hits    []int // in each of its lives the hit at which it dies
}

// String is the name of the job: path, service, point, and the hits at which the
// process dies, life by life.
func (j job) String() string {
	var lives []string
	for _, hit := range j.hits {
		lives = append(lives, strconv.Itoa(hit))
	}
	return j.path.name + "/" + j.service + "/" + j.point.name + "@" + strings.Join(lives, "+")
}

// script is what is written for the process.
func (j job) script() []string {
	var lives []string
	for _, hit := range j.hits {
		life := fmt.Sprintf("%s=kill@%d", j.point.name, hit)
		if j.point.first != "" {
			life = j.point.first + ";" + life
		}
		lives = append(lives, life)
	}
	return lives
}

// jobs are all that belong to the matrix: each point on each path where it is
// passed, in each service. The process dies there at the first hit and, started
// again, once more at the first: in the middle of its recovery. And it dies there
// at the second hit. What is passed once at the start has no second hit.
func jobs() (all []job) {
	for _, path := range sagaPaths() {
		for _, service := range services() {
			for _, p := range points() {
				if !p.at(path, service) {
					continue
				}
				all = append(all, job{path, service, p, []int{1, 1}})
				if !p.start && p.first == "" {
					all = append(all, job{path, service, p, []int{2}})
				}
			}
		}
	}
	return all
}

// chosen are the jobs of this run: those of its size, or of the whole matrix
// where only a pattern is given, and of them those that fit the pattern.
func chosen(t *testing.T) []job {
	t.Helper()
	size, pattern := os.Getenv(crashSizeEnv), os.Getenv(crashCellsEnv)
	if size == "" && pattern != "" {
		size = "full"
	}
	wanted, err := regexp.Compile(pattern)
	must(t, err)
	return slices.DeleteFunc(ofSize(t, size), func(j job) bool { return !wanted.MatchString(j.String()) })
}

func ofSize(t *testing.T, size string) []job {
	t.Helper()
	all := jobs()
	switch size {
	case "full":
		return all
	case "ci":
		return sample(all, seed(t))
	case "", "tiny":
		names := []string{
			"confirmed/order-svc/relay.after_plan@1+1", "confirmed/payment-svc/relay.after_ack@2", "confirmed/inventory-svc/inbox.after_commit@1+1",
			"confirmed/notification-svc/message.after_claim@1+1", "card/payment-svc/card.after_call@1+1", "confirmed/gateway-svc/gateway.after_call@1+1",
		}
		few := slices.DeleteFunc(all, func(j job) bool { return !slices.Contains(names, j.String()) })
		if len(few) != len(names) {
			t.Fatalf("of the cells %q there are only %v", names, few)
		}
		return few
	}
	t.Fatalf("%s=%q: choose tiny, ci or full", crashSizeEnv, size)
	return nil
}

func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv(crashSeedEnv)
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	must(t, err)
	return n
}

// sample takes every point of every service with both kinds of hits, each on the
// path where that service has the fewest of them, and then more until there are
// enough kills: first those for which no round is added.
func sample(all []job, seed uint64) []job {
	rng := rand.New(rand.NewPCG(seed, 0))
	rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	load := map[string]int{} // by path and service
	longest := map[string]int{}
	kills := 0
	var taken, rest []job
	take := func(j job) {
		load[j.path.name+j.service]++
		longest[j.path.name] = max(longest[j.path.name], load[j.path.name+j.service])
		kills += len(j.hits)
		taken = append(taken, j)
	}
	what := func(j job) string { return fmt.Sprint(j.service, j.point.name, j.hits) }
	groups := map[string][]job{}
	for _, j := range all {
		groups[what(j)] = append(groups[what(j)], j)
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		least := slices.MinFunc(groups[name], func(a, b job) int {
			return cmp.Compare(load[a.path.name+a.service], load[b.path.name+b.service])
		})
		take(least)
		rest = append(rest, slices.DeleteFunc(groups[name], func(j job) bool { return j.path.name == least.path.name })...)
	}
	rng.Shuffle(len(rest), func(i, k int) { rest[i], rest[k] = rest[k], rest[i] })
	for _, mayAdd := range []bool{false, true} {
		rest = slices.DeleteFunc(rest, func(j job) bool {
			fits := mayAdd || load[j.path.name+j.service] < longest[j.path.name]
			if fits = fits && kills < ciKills; fits {
				take(j)
			}
			return fits
		})
	}
	return taken
}

// matrix is a run.
type matrix struct {
	t       *testing.T
	up      *up
	gw      gateway
	scripts string // directory
	placed  int
	results []result
}

// result is what became of a job.
type result struct {
	job    job
	deaths int // at its point, as asked for
}

func (r result) missed() bool { return r.deaths != len(r.job.hits) }

// Every named failpoint on every path of the saga: the process dies there, is
// started again, and everything comes to the end it should have.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	todo := chosen(t)
	if len(todo) == 0 {
		t.Fatalf("%s matches no job", crashCellsEnv)
	}
	scripts := freshDir(t)
	u := start(t, how{args: []string{"--no-orders"}, env: []string{
		"PAVANE_FAILPOINTS=@" + scripts, "PAVANE_SESSION=700ms", "PAVANE_ORDER_DEADLINE=10m",
	}})
	m := &matrix{t: t, up: u, gw: u.gateway(), scripts: scripts}
	m.warmUp()
	defer func() { m.report(todo) }()
	begun := time.Now()
	for _, path := range sagaPaths() {
		rounds := m.rounds(path, todo)
		for i, round := range rounds {
			m.round(path, round)
			t.Logf("%5.0f s  %s, round %d of %d: %v", time.Since(begun).Seconds(), path.name, i+1, len(rounds), names(round))
		}
		if len(rounds) > 0 {
			u.audit()
		}
	}
}

// warmUp waits until every service has its tables and has handled something.
func (m *matrix) warmUp() {
	m.t.Helper()
	id := m.gw.fulfil(m.t, orderLimit, "before-the-crash-matrix").ID
	await.True(m.t, orderLimit, "notification-svc has its tables", func() bool {
		return m.number("notifications", `select count(*) from pg_tables where schemaname = current_schema() and tablename = 'mails'`) > 0
	})
	m.settle(sagaPaths()[0], []string{id})
}

func names(round []job) (all []string) {
	for _, j := range round {
		all = append(all, strings.TrimPrefix(j.String(), j.path.name+"/"))
	}
	return all
}

// rounds puts the jobs of a path together: in a round each service has two, one
// after the other.
func (m *matrix) rounds(path sagaPath, todo []job) (rounds [][]job) {
	next := map[string]int{}
	for _, j := range todo {
		if j.path.name != path.name {
			continue
		}
		n := next[j.service] / jobsPerRound
		next[j.service]++
		if n == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[n] = append(rounds[n], j)
	}
	return rounds
}

// round arms the processes, sends orders along the path until each of them has
// died where it should, and waits until all have come to their end.
func (m *matrix) round(path sagaPath, round []job) {
	m.t.Helper()
	before, scripts := map[string]int{}, map[string][]string{}
	for _, j := range round {
		before[j.service] = len(m.deaths(j.service))
		scripts[j.service] = append(scripts[j.service], j.script()...)
	}
	for service, lives := range scripts {
		must(m.t, failpoint.Write(m.script(service), lives...))
	}
	results := make([]result, len(round))
	for range maxTravels {
		ids := m.travel(path, func() { m.begin(round) })
		m.settle(path, ids)
		if m.fired(round) {
			break
		}
	}
	for i, j := range round {
		results[i].job = j
		died := m.deaths(j.service)[before[j.service]:]
		died = died[:min(len(died), len(j.hits))]
		before[j.service] += len(died)
		for n, death := range died {
			if want := fmt.Sprintf("%s@%d ", j.point.name, j.hits[n]); !strings.HasPrefix(death, want) {
				m.t.Errorf("%s: died at %q, want %q", j, death, want)
			}
			m.isKill(death)
			results[i].deaths++
		}
		if results[i].missed() {
			m.t.Errorf("%s: reached %d of %d times in %d travels", j, results[i].deaths, len(j.hits), maxTravels)
		}
		must(m.t, failpoint.Write(m.script(j.service)))
	}
	m.results = append(m.results, results...)
}

// begin kills the services from outside whose next point is passed at the start.
func (m *matrix) begin(round []job) {
	m.t.Helper()
	for _, service := range services() {
		next, _, _ := strings.Cut(m.left(service), "=")
		if slices.ContainsFunc(round, func(j job) bool { return j.service == service && j.point.start && j.point.name == next }) {
			m.killNow(service)
		}
	}
}

// left is what is left of a service's script.
func (m *matrix) left(service string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.script(service))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	must(m.t, err)
	return string(b)
}

func (m *matrix) script(service string) string { return filepath.Join(m.scripts, service) }

// deaths are the lines that dying processes of a service have left.
func (m *matrix) deaths(service string) []string {
	m.t.Helper()
	b, err := os.ReadFile(failpoint.Deaths(m.script(service)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(m.t, err)
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// isKill compares what a dying process noted with what its parent saw.
func (m *matrix) isKill(death string) {
	m.t.Helper()
	_, pid, _ := strings.Cut(death, " ")
	await.True(m.t, stopLimit, "`pavane up` has started another process for "+death, func() bool {
		return m.up.Said("(process "+pid+") ended: signal: killed") != ""
	})
}

// killNow kills a service from outside, unless it is dead already.
func (m *matrix) killNow(service string) {
	m.t.Helper()
	if err := syscall.Kill(m.up.State().Services[service].Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		m.t.Fatal(err)
	}
}

// fired tells whether every process has died as often as it should. Where that
// may come later than the end of the saga, it waits.
func (m *matrix) fired(round []job) bool {
	m.t.Helper()
	deadline := time.NewTimer(lateLimit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		all, late := true, false
		for _, j := range round {
			left := m.left(j.service)
			all = all && left == ""
			late = late || strings.HasPrefix(left, j.point.name+"=") && (j.point.start || j.point.late)
		}
		if all || !late {
			return all
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		}
	}
}

// report prints the matrix, and writes it to a file where that is wanted.
func (m *matrix) report(todo []job) {
	kills, reached := 0, 0
	for _, r := range m.results {
		kills += r.deaths
		if !r.missed() {
			reached++
		}
	}
	m.t.Logf("crash matrix: %d kills at %d points; %d of %d jobs as asked for\n%s", kills, len(m.perPoint()), reached, len(todo), m.table())
	if file := os.Getenv(crashJSONEnv); file != "" {
		b, err := json.MarshalIndent(m.rows(), "", " ")
		if err == nil {
			err = os.WriteFile(file, append(b, '\n'), 0o644)
		}
		if err != nil {
			m.t.Error(err)
		}
	}
}

func (m *matrix) perPoint() map[string]map[string]int {
	kills := map[string]map[string]int{}
	for _, r := range m.results {
		if kills[r.job.point.name] == nil {
			kills[r.job.point.name] = map[string]int{}
		}
		kills[r.job.point.name][r.job.path.name] += r.deaths
	}
	return kills
}

// table has a line for each point and a column for each path: how often a
// process was killed there, "-" where the point is not passed, "." where this run
// did not try, "!" where one did not die as it should.
func (m *matrix) table() string {
	var b strings.Builder
	paths, kills := sagaPaths(), m.perPoint()
	for i, p := range paths {
		fmt.Fprintf(&b, "%3d = %s\n", i+1, p.name)
	}
	fmt.Fprintf(&b, "%-28s", "kills at, on path")
	for i := range paths {
		fmt.Fprintf(&b, "%5d", i+1)
	}
	b.WriteString("\n")
	for _, p := range points() {
		if p.relay {
			continue
		}
		fmt.Fprintf(&b, "%-28s", p.name)
		for _, path := range paths {
			cell := "-"
			if slices.ContainsFunc(services(), func(s string) bool { return p.at(path, s) }) {
				cell = "."
			}
			if n := kills[p.name][path.name]; n > 0 {
				cell = strconv.Itoa(n)
			}
			if slices.ContainsFunc(m.results, func(r result) bool { return r.missed() && r.job.point.name == p.name && r.job.path.name == path.name }) {
				cell = "!"
			}
			fmt.Fprintf(&b, "%5s", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// row is a job as JSON.
type row struct {
	Path    string `json:"path"`
	Service string `json:"service"`
	Point   string `json:"point"`
	Hits    []int  `json:"hits"` // in each life
	Deaths  int    `json:"deaths"`
	Reached bool   `json:"reached"`
}

func (m *matrix) rows() []row {
	rows := []row{}
	for _, r := range m.results {
		j := r.job
		rows = append(rows, row{j.path.name, j.service, j.point.name, j.hits, r.deaths, !r.missed()})
	}
	return rows
}
