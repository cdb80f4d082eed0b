package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// sagaRun is what `pavane bench saga` says of a run.
type sagaRun struct {
	Rate    float64        `json:"rate"`
	Seconds float64        `json:"seconds"`
	Orders  int            `json:"orders"`
	Errors  int            `json:"errors"`
	Outcome map[string]int `json:"outcome"`
	Latency struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
	Busy float64 `json:"machine_busy"`
}

// tool is the program that runs the five services and places orders.
func (r *rig) tool() string { return filepath.Join(r.opts.bin, "pavane") }

// saga places orders with the five services on this run's servers.
func saga(ctx context.Context, r *rig) error {
	out, err := r.runTool(ctx)
	run, clean, parsed := parseSaga(out)
	if parsed != nil {
		return errors.Join(err, parsed)
	}
	confirmed := float64(run.Outcome["confirmed"])
	name := pavane().name
	r.found.add(r.section, run)
	r.say("  %g orders/s: %g of %d confirmed, p50 %.0f ms, p99 %.0f, machine %.0f %% busy", run.Rate, confirmed, run.Orders, run.Latency.P50, run.Latency.P99, 100*run.Busy)
	r.found.figure(r.section, "orders/s to the end state", map[string]float64{name: confirmed / run.Seconds})
	r.found.figure(r.section, "p50 ms", map[string]float64{name: run.Latency.P50})
	r.found.figure(r.section, "p99 ms", map[string]float64{name: run.Latency.P99})
	r.found.promises = append(r.found.promises, promise{
		r.section, "the audit finds no difference", fmt.Sprintf("clean: %t, %d errors", clean, run.Errors), clean && run.Errors == 0,
	})
	return nil
}

// runTool runs it in a process of its own, as people do.
func (r *rig) runTool(ctx context.Context) ([]byte, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, r.tool(), "bench", "saga", "--json", "--sample", "0",
		"--kafka", r.kafka.Addr(), "--postgres", r.pg.URL("postgres"), "--rate", fmt.Sprint(r.sagaRate), "--for", r.sagaFor.String(), "--warm-up", r.sagaWarmUp.String())
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = deathSignal()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return out.Bytes(), fmt.Errorf("%s: %w: %s", r.tool(), err, lines[len(lines)-1])
	}
	return out.Bytes(), nil
}

// parseSaga finds the run and the audit's verdict among the tool's lines.
func parseSaga(out []byte) (run sagaRun, clean bool, err error) {
	runs, audits := 0, 0
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Kind string          `json:"kind"`
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return run, false, fmt.Errorf("a line of the saga's run: %w", err)
		}
		switch line.Kind {
		case "run":
			runs++
			err = json.Unmarshal(line.Data, &run)
		case "audit":
			audits++
			verdict := struct {
				Clean bool `json:"clean"`
			}{}
			err = json.Unmarshal(line.Data, &verdict)
			clean = verdict.Clean
		}
		if err != nil {
			return run, false, fmt.Errorf("the saga's %s: %w", line.Kind, err)
		}
	}
	if runs != 1 || audits != 1 || run.Seconds <= 0 {
		return run, false, fmt.Errorf("the saga's run told %d results and %d verdicts; want one of each", runs, audits)
	}
	return run, clean, lines.Err()
}

// checkTool says what to do when the saga cannot be run.
func checkTool(bin string) error {
	if _, err := os.Stat(filepath.Join(bin, "pavane")); err != nil {
		return fmt.Errorf("the saga needs the built programs in %s: run make build, name another folder by --bin, or leave the section out by --only", bin)
	}
	return nil
}
