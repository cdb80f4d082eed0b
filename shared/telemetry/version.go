package telemetry

import (
	_ "embed"
	"runtime/debug"
	"strings"
)

// stamped is empty in the repository. A build without git, such as that of an
// image, writes its version there.
//
//go:embed version.txt
var stamped string

// Version is what the build stamped into the binary: what it wrote to
// version.txt, else the tag or pseudo-version that the Go tool took from git,
// else "unknown".
func Version() string {
	if v := strings.TrimSpace(stamped); v != "" {
		return v
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
