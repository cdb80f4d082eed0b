package doctor

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pavane/internal/devstack"
)

func wantFinding(t *testing.T, f Finding, g grade, part string) {
	t.Helper()
	if f.grade != g || !strings.Contains(f.what, part) {
		t.Errorf("%s: %s %q; want %s with %q", f.subject, f.grade, f.what, g, part)
	}
}

func TestDirectory_NotThereYet_IsTriedWhereItWillBeAndLeftAsItWas(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	wantFinding(t, directory(filepath.Join(above, "not", "yet")), fine, "GB free")
	if left, err := os.ReadDir(above); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left", left, err)
	}
}

func TestDirectory_CannotBeMade_SaysSoAndWhatElse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantFinding(t, directory(filepath.Join(file, "data")), bad, "--dir")
}

func TestRoom_LittleIsLeft_IsBad(t *testing.T) {
	t.Parallel()
	wantFinding(t, room("/data", wantFree-1), bad, "2.0 GB left, want 2")
	wantFinding(t, room("/data", wantFree), fine, "2 GB free")
}

func TestPort_Taken_IsNotedForItIsSteppedOver(t *testing.T) {
	t.Parallel()
	port, err := devstack.FreePort(0) // which nobody else takes as soon as it is free
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, portOf(port), missing, "is taken")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantFinding(t, portOf(port), fine, "is free")
}

func TestTool_FailsOrIsNotThere_IsNotedWithWhatItSaid(t *testing.T) {
	t.Parallel()
	wantFinding(t, tool(t.Context(), "Shell", "a test needs it", "sh", "-c", "echo version 1; echo more"), fine, "version 1")
	wantFinding(t, tool(t.Context(), "Shell", "a test needs it", "sh", "-c", "echo no such thing >&2; exit 1"), missing, "a test needs it, and `sh -c")
	wantFinding(t, tool(t.Context(), "Shell", "a test needs it", "sh", "-c", "echo no such thing >&2; exit 1"), missing, "fails: no such thing")
	wantFinding(t, tool(t.Context(), "None", "a test needs it", "no-such-program-as-this"), missing, "not found")
}

func TestWrite_ALineForEach_AndCountsTheBadOnes(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	n, err := Write(&out, "this machine", []Finding{Fine("port", "%d is free", 8080), Bad("data", "is full"), Note("Go", "is missing")})
	want := "this machine\n  ok    port  8080 is free\n  bad   data  is full\n  note  Go    is missing\n"
	if n != 1 || err != nil || out.String() != want {
		t.Errorf("%d bad, %v, written\n%s\nwant 1 and\n%s", n, err, out.String(), want)
	}
}
