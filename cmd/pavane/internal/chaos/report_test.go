package chaos

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/internal/audit"
)

// good is a run of twenty faults and a hundred orders.
func good() *Report {
	r := &Report{
		End:  EndLimit,
		Seed: 1, For: time.Minute, Planned: 20, Due: 100, Placed: 100, Ended: map[string]int{"confirmed": 100},
		AllEnded: true, Audit: audit.Verdict{Clean: true}, Moments: []Moment{{Due: 1, Placed: 1, Ended: map[string]int{"confirmed": 1}}},
	}
	for i := range 20 {
		r.Faults = append(r.Faults, Struck{
			Planned: Planned{Spec: fault.Spec{Kind: "kill", Service: "payment-svc"}}, Inside: 1,
			Began: time.Duration(i) * time.Second, Healed: time.Duration(i+1) * time.Second, Recovery: time.Second,
		})
	}
	return r
}

func TestJudge_RunThatMissesALimit_FailsAndSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*Report)
		want  string // empty: the run is good
	}{
		"nothing amiss":                {func(*Report) {}, ""},
		"one of twenty missed":         {func(r *Report) { r.Faults[3].Error = "no" }, ""},
		"two of twenty missed":         {func(r *Report) { r.Faults[3].Error, r.Faults[4].Inside = "no", 0 }, "18 of 20 faults landed"},
		"faults not dealt out":         {func(r *Report) { r.Faults = r.Faults[:10] }, "10 of 20 faults landed"},
		"no faults at all":             {func(r *Report) { r.Faults, r.Planned = nil, 0 }, "0 of 0 faults landed"},
		"ninety percent placed":        {func(r *Report) { r.Placed = 90 }, ""},
		"less than that placed":        {func(r *Report) { r.Placed, r.LastRefusal = 89, "503" }, "89 of 100 orders were placed"},
		"an order under way for ever":  {func(r *Report) { r.AllEnded, r.Open = false, []string{"o-1"} }, "1 orders had not ended 1m0s after the last fault: o-1"},
		"an order not placed in time":  {func(r *Report) { r.AllEnded, r.Unplaced, r.LastRefusal = false, []string{"run-7"}, "503" }, "1 orders were still being placed 1m0s after the last fault: run-7; the last refusal: 503"},
		"an order that ended too late": {func(r *Report) { r.AllEnded = false }, "the last order ended later than 1m0s"},
		"the audit found something":    {func(r *Report) { r.Audit = audit.Verdict{Differences: []audit.Difference{{Text: "lost"}}} }, "the audit found 1 differences, the first: lost"},
		"effects came too late":        {func(r *Report) { r.Audit.Settling = "60s" }, "not all effects were there"},
		"stopped, with what it had":    {func(r *Report) { r.Stopped, r.Faults = true, r.Faults[:3] }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := good()
			c.spoil(r)
			r.judge()
			if r.OK != (c.want == "") || !strings.Contains(strings.Join(r.Failures, "\n"), c.want) {
				t.Errorf("OK %t, failures %q, want %q", r.OK, r.Failures, c.want)
			}
		})
	}
}

func TestBook_RecoveryIsOfTheFirstOrderSentAfterwardsAndConfirmed(t *testing.T) {
	t.Parallel()
	b := newBook()
	before := time.Now()
	b.notePlaced(1, "one")
	var took time.Duration
	b.watch(&took)
	b.noteEnded(1, before, "confirmed")
	if took != 0 {
		t.Errorf("an order from before the end of the fault counts as recovery: %s", took)
	}
	b.notePlaced(4, "four")
	b.noteEnded(4, time.Now(), "cancelled out_of_stock")
	if took != 0 {
		t.Errorf("an order that needs no payment counts as recovery: %s", took)
	}
	b.notePlaced(2, "two")
	b.noteEnded(2, time.Now(), "confirmed")
	first := took
	b.notePlaced(3, "three")
	b.noteEnded(3, time.Now(), "confirmed")
	if first == 0 || took != first || b.underWay() != 0 {
		t.Errorf("recovery %s, then %s, %d under way; want that of the second order, 0", first, took, b.underWay())
	}
}

func TestReport_JSONAndPage_TellTheSameAndAreWhole(t *testing.T) {
	t.Parallel()
	r := good()
	r.Faults[0].Error = `<script>alert("x")</script>`
	r.judge()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Landed() != 19 || back.Placed != 100 {
		t.Errorf("%v: %d faults landed, %d orders placed", err, back.Landed(), back.Placed)
	}
	b.Reset()
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{"seed 1", "19 of 20", "payment-svc", "prefers-color-scheme: dark", `class="missed"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, not := range []string{"<script", "http://", "https://", "ZgotmplZ"} {
		if strings.Contains(page, not) {
			t.Errorf("the page holds %q", not)
		}
	}
	wellFormed(t, page[strings.Index(page, "<svg"):strings.Index(page, "</svg>")+len("</svg>")])
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the drawing: %v", err)
		}
	}
}
