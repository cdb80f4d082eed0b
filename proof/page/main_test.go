// Package page_test owns the tests of the page as a person meets it: in a real
// Chromium, on a demo that runs from the built binaries. `make page-test` runs
// them.
package page_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const startLimit = 5 * time.Minute // two cores may be shared with other tests

// demo starts `pavane up` in dir and returns the address of its page.
func demo(t *testing.T, dir string) string {
	t.Helper()
	bin := os.Getenv("PAVANE_BIN")
	if bin == "" {
		t.Skip("PAVANE_BIN is not set; make page-test runs it")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "pavane"), "up", "--no-open", "--port", "0", "--dir", dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the demo; make build makes it: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait() //nolint:errcheck // ended by the signal
	})
	return pageAddress(t, out)
}

func pageAddress(t *testing.T, out io.Reader) string {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() { // to the end, so that the demo never blocks on a full pipe
			if _, rest, ok := strings.Cut(lines.Text(), "page: "); ok {
				select {
				case found <- strings.Fields(rest)[0]:
				default:
				}
			}
		}
	}()
	select {
	case url := <-found:
		return url
	case <-time.After(startLimit):
		t.Fatalf("the demo did not say where its page is within %v", startLimit)
		return ""
	}
}

// chromium finds the browser, which everything here needs.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("PAVANE_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium here: install one (apt-get install chromium), or name it in PAVANE_CHROMIUM")
	return ""
}

// complaints collects what the browser's console says is wrong.
type complaints struct {
	mu   sync.Mutex
	said []string
}

func (c *complaints) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

// pardon forgets answers with a status of 500 and above: who breaks a server on
// purpose gets them, and the browser tells of each, however well the page takes it.
func (c *complaints) pardon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = slices.DeleteFunc(c.said, func(said string) bool { return strings.Contains(said, "the server responded with a status of 50") })
}

func (c *complaints) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		c.add("exception: %v", e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			for _, a := range e.Args {
				c.add("console: %s %s", a.Value, a.Description)
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			c.add("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	}
}

// browser opens a tab and returns what its console complains of.
func browser(t *testing.T) (context.Context, *complaints) {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.DisableGPU)
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancelAllocator)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, cancelLimit := context.WithTimeout(ctx, 50*time.Minute) // less than go test has in the Makefile
	t.Cleanup(cancelLimit)
	c := &complaints{}
	if err := chromedp.Listen(ctx, c.hear); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx, c
}
