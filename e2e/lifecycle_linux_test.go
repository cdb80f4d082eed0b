package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pavane/internal/await"
	"pavane/internal/demo"
)

// memoryLimit is what all processes of the demo may take together, in KiB.
const memoryLimit = 400 << 10

// process is one of /proc.
type process struct {
	pid     int
	name    string
	started string // tells it from a later one of the same pid
}

// lookUp reads /proc/PID/stat; the parent comes with it.
func lookUp(pid int) (p process, parent int, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, 0, false
	}
	open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
	fields := strings.Fields(string(b[end+1:])) // the state, the parent, … (proc_pid_stat(5))
	parent, err = strconv.Atoi(fields[1])
	return process{pid, string(b[open+1 : end]), fields[19]}, parent, err == nil && fields[0] != "Z"
}

// tree lists a process and all that descend from it.
func tree(t testing.TB, root int) []process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	must(t, err)
	children := map[int][]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, parent, ok := lookUp(pid); ok {
			children[parent] = append(children[parent], p)
		}
	}
	first, _, ok := lookUp(root)
	if !ok {
		t.Fatalf("there is no process %d", root)
	}
	all := []process{first}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all
}

// gone fails for each process that still runs.
func gone(t testing.TB, ps []process) {
	t.Helper()
	for _, p := range ps {
		if now, _, ok := lookUp(p.pid); ok && now.started == p.started {
			t.Errorf("process %d (%s) is left", p.pid, p.name)
		}
	}
}

// memory is the sum of the processes' proportional share of memory, in KiB.
func memory(t testing.TB, ps []process) (total int, parts string) {
	t.Helper()
	byName := map[string]int{}
	for _, p := range ps {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a backend that ended meanwhile
		}
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, err := strconv.Atoi(strings.Fields(rest)[0])
				must(t, err)
				total += kib
				byName[p.name] += kib
			}
		}
	}
	for name, kib := range byName {
		parts += fmt.Sprintf(" %s %d", name, kib>>10)
	}
	return total, parts
}

// listening lists the inodes of the sockets on which processes listen, and their
// addresses as /proc/net shows them.
func listening(t testing.TB, ps []process) map[string]string {
	t.Helper()
	owned := map[string]bool{}
	for _, p := range ps {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid))
		for _, l := range links {
			to, err := os.Readlink(l)
			if inode, ok := strings.CutPrefix(to, "socket:["); ok && err == nil {
				owned[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	found := map[string]string{}
	for inode, addr := range listeners(t) {
		if owned[inode] {
			found[inode] = addr
		}
	}
	return found
}

// listeners lists all listening sockets of the machine by inode.
func listeners(t testing.TB) map[string]string {
	t.Helper()
	const listen = "0A" // include/net/tcp_states.h
	found := map[string]string{}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile("/proc/net/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		must(t, err)
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && (f[3] == listen || strings.HasPrefix(table, "udp") && f[1] != "local_address") {
				found[f[9]] = table + " " + f[1]
			}
		}
	}
	return found
}

// released fails for each socket that is still open.
func released(t testing.TB, sockets map[string]string) {
	t.Helper()
	now := listeners(t)
	for inode, addr := range sockets {
		if _, ok := now[inode]; ok {
			t.Errorf("somebody still listens on %s", addr)
		}
	}
}

// A first start on a machine where the port is taken, as a person would see it:
// within its memory, alone in its directory, and gone without a trace.
func TestUp_FirstStartToCtrlC_StepsAroundATakenPortAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	u := start(t, how{embedded: true, args: []string{"--port", port}})
	u.Await("port " + port + " is taken")
	t.Logf("the first order: %s", u.Await("two packets of tea"))
	for _, want := range []string{"(two packets of tea): confirmed", "(something out of stock): cancelled out_of_stock", "(tea for an empty wallet): cancelled payment_declined"} {
		u.Await(want)
	}
	refusedTwice(t, u)
	gw := u.gateway()
	for i := range 20 {
		gw.fulfil(t, orderLimit, fmt.Sprint("memory-", i))
	}
	healthy(t, u)
	sound(t, u)
	all := tree(t, u.Proc.Pid)
	used, parts := memory(t, all)
	t.Logf("%d processes, %d MiB together:%s", len(all), used>>10, parts)
	if used > memoryLimit {
		t.Errorf("the processes take %d KiB together, want at most %d", used, memoryLimit)
	}
	sockets := listening(t, all)
	if len(all) < 8 || len(sockets) < 13 {
		t.Fatalf("only %d processes with %d listening sockets were found: %v, %v", len(all), len(sockets), all, sockets)
	}
	u.Signal(syscall.SIGINT)
	if code := u.End().ExitCode(); code != 0 {
		t.Errorf("after Ctrl-C the exit status is %s, want 0", u.End())
	}
	gone(t, all)
	released(t, sockets)
}

// healthy has the doctor look at the machine and at the demo.
func healthy(t *testing.T, u *up) {
	t.Helper()
	var out []byte
	defer func() { t.Logf("pavane doctor:\n%s", out) }()
	// On a busy machine an instance may be taken for dead for a moment.
	await.True(t, orderLimit, "the doctor finds nothing that has to be seen to", func() (content bool) {
		var err error
		out, err = exec.Command(filepath.Join(u.Bin, "pavane"), "doctor", "--dir", u.Dir).CombinedOutput()
		return err == nil
	})
	for _, want := range []string{"the binaries are in", "the demo in " + u.Dir, "notification-svc", "nothing is parked"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("pavane doctor does not say %q", want)
		}
	}
}

// sound audits the demo as if each database were on a server of its own.
func sound(t *testing.T, u *up) {
	t.Helper()
	at := u.State()
	args := []string{"audit", "--kafka", strings.Join(at.Kafka, ","), "--provider", at.Provider}
	for i, name := range databases() {
		args = append(args, "--database", demo.Services()[i]+"="+u.url(name))
	}
	if out, err := u.Tool(args...); err != nil || !strings.Contains(out, "audit: clean") {
		t.Errorf("pavane audit: %v\n%s", err, out)
	}
}

// refusedTwice tries to start on a directory that is in use.
func refusedTwice(t *testing.T, u *up) {
	t.Helper()
	out, err := exec.Command(filepath.Join(u.Bin, "pavane"), "up", "--no-open", "--dir", u.Dir).CombinedOutput()
	text := strings.TrimSpace(string(out))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("a second `pavane up` on the directory: %v\n%s", err, text)
	}
	for _, want := range []string{u.Dir, strconv.Itoa(u.Proc.Pid), u.State().Gateway, "--dir"} {
		if strings.Contains(text, "\n") || !strings.Contains(text, want) {
			t.Errorf("the refusal is no single line with %q: %s", want, text)
		}
	}
}

func TestUp_KilledAndStartedAgain_CleansUpAndKeepsTheOrders(t *testing.T) {
	t.Parallel()
	first := start(t, how{embedded: true})
	o := first.gateway().fulfil(t, orderLimit, "before-the-kill")
	all := tree(t, first.Proc.Pid)
	first.Signal(syscall.SIGKILL)

	u := start(t, how{embedded: true, dir: first.Dir})
	gone(t, all)
	after, err := u.gateway().Ended(orderLimit, o.ID)
	must(t, err)
	if after != o {
		t.Errorf("the order was %+v and is %+v after the kill", o, after)
	}
	u.gateway().fulfil(t, orderLimit, "after-the-kill")
	u.audit()
}

// As root, the demo also runs as somebody with nothing but a home directory. Other
// users run it as themselves in every other test.
func TestUp_AsANormalUser_Runs(t *testing.T) {
	t.Parallel()
	h := how{embedded: true, dir: freshDir(t)}
	if os.Geteuid() == 0 {
		const nobody = 65534
		h.user = &syscall.Credential{Uid: nobody, Gid: nobody}
		must(t, os.Chown(h.dir, nobody, nobody))
	}
	u := start(t, h)
	u.Await("(two packets of tea): confirmed")
	all := tree(t, u.Proc.Pid)
	u.Signal(syscall.SIGINT)
	await.True(t, stopLimit, "the state file is gone", func() bool {
		_, err := os.Stat(filepath.Join(u.Dir, "state.json"))
		return errors.Is(err, fs.ErrNotExist)
	})
	gone(t, all)
}
