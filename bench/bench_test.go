package main

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pavane/shared/broker"
	"pavane/shared/event"
)

// fill adds three keys with four numbers each, as they should be.
func fill(t *tally) {
	for n := int64(1); n <= 4; n++ {
		for p, key := range []string{"a", "b", "c"} {
			t.add(int32(p), key, n)
		}
	}
}

func TestTally_CountsWhatWasDoctored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		doctor func(*tally)
		rows   int
		want   string
	}{
		{"nothing", func(*tally) {}, 12, "0 duplicates, 0 missing, 0 inversions, 0 split keys"},
		{"a duplicate at once", func(f *tally) { f.add(0, "a", 4) }, 12, "1 duplicates, 0 missing, 0 inversions, 0 split keys"},
		{"a duplicate much later", func(f *tally) { f.add(0, "a", 1) }, 12, "1 duplicates, 0 missing, 0 inversions, 0 split keys"},
		{"a record lost", func(*tally) {}, 13, "0 duplicates, 1 missing, 0 inversions, 0 split keys"},
		{"a record lost and another one twice", func(f *tally) { f.add(1, "b", 2) }, 13, "1 duplicates, 1 missing, 0 inversions, 0 split keys"},
		{"a record after a later one", func(f *tally) { f.add(2, "c", 6); f.add(2, "c", 5) }, 14, "0 duplicates, 0 missing, 1 inversions, 0 split keys"},
		{"a key in two partitions", func(f *tally) { f.add(7, "a", 5); f.add(7, "a", 6) }, 14, "0 duplicates, 0 missing, 0 inversions, 1 split keys"},
		{"a record that no row explains", func(f *tally) { f.add(0, "x", 1) }, 12, "0 duplicates, -1 missing, 0 inversions, 0 split keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			found := newTally()
			fill(found)
			c.doctor(found)
			found.close(c.rows)
			if got := found.String(); got != c.want {
				t.Errorf("got %s; want %s", got, c.want)
			}
			if clean := c.name == "nothing"; found.clean() != clean {
				t.Errorf("clean is %t", found.clean())
			}
		})
	}
}

func TestFindings_BrokenPromise_IsAnErrorAndAMissedGoalOnlyWhenStrict(t *testing.T) {
	t.Parallel()
	good, bad := newTally(), newTally()
	good.add(0, "a", 1)
	good.close(1)
	bad.add(0, "a", 1)
	bad.add(0, "a", 1)
	bad.close(1)
	var out bytes.Buffer
	f := &findings{}
	f.promise("drain", pavane(), "once", good)
	f.promise("drain", textbook1000(), "once", bad) // is not ours to keep
	f.goal("drain", "speed", 0.5, atLeast(0.75))
	if err := f.write(&out, options{}); err != nil {
		t.Errorf("a missed goal: %v", err)
	}
	if err := f.write(&out, options{strict: true}); !errors.Is(err, errMissed) {
		t.Errorf("a missed goal, strictly: %v", err)
	}
	f.promise("drain", pavane(), "once", bad)
	f.promise("drain", pavane(), "once", good)
	for _, o := range []options{{}, {json: true}} {
		out.Reset()
		if err := f.write(&out, o); err == nil || !strings.Contains(err.Error(), "1 duplicates") {
			t.Errorf("a broken promise: %v", err)
		}
		if want := map[bool]string{false: "BROKEN: 1 duplicates", true: `"ok":false`}[o.json]; !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestFindings_ShortRun_JudgesNoGoal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := &findings{brief: true}
	f.figure("drain", "rows/s", map[string]float64{machine: 1})
	f.goal("drain", "speed", 0.5, atLeast(0.75))
	if err := f.write(&out, options{}); err != nil || strings.Contains(out.String(), "goal:") || !strings.Contains(out.String(), "says nothing about speed goals") {
		t.Errorf("%v in\n%s", err, out.String())
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	if got := []float64{median(nil), median([]float64{3, 1, 2}), median([]float64{4, 1, 2, 3})}; !slices.Equal(got, []float64{0, 2, 2.5}) {
		t.Errorf("medians are %v", got)
	}
	var all []time.Duration
	for i := 100; i > 0; i-- {
		all = append(all, time.Duration(i)*time.Millisecond)
	}
	if p50, p99, most := quantile(all, .5), quantile(all, .99), quantile(all, 1); p50 != 50*time.Millisecond || p99 != 99*time.Millisecond || most != 100*time.Millisecond {
		t.Errorf("quantiles are %v, %v, %v", p50, p99, most)
	}
	if quantile(nil, .5) != 0 || quantileOf(nil, .5) != 0 || quantileOf([]float64{3, 1, 2}, .9) != 3 || ratio(1, 0) != 0 || perSecond(10, 0) != 0 {
		t.Error("of nothing comes nothing, and nine tenths of three are the third")
	}
}

func TestWork_IsDensePerKeyAndOfTheSizeSaid(t *testing.T) {
	t.Parallel()
	const rows = 20000
	last, bytes := map[string]int64{}, 0
	for n := range rows {
		it := newItem(n)
		if it.sequence != last[it.key]+1 {
			t.Fatalf("row %d: key %s has number %d after %d", n, it.key, it.sequence, last[it.key])
		}
		last[it.key] = it.sequence
		bytes += len(it.payload)
	}
	if mean := bytes / rows; len(last) != keys || mean < 325 || mean > 345 {
		t.Errorf("%d keys, %d bytes on average; want %d and about 335", len(last), mean, keys)
	}
}

func TestEncodeWork_HoldsEachRowOnceInItsPartition(t *testing.T) {
	t.Parallel()
	const rows = 12000
	batches, err := encodeWork(rows)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, all := range batches {
		for _, b := range all {
			records += int(b[4+57])<<24 | int(b[4+58])<<16 | int(b[4+59])<<8 | int(b[4+60]) // the batch's own count
		}
	}
	if records != rows {
		t.Errorf("%d records of %d rows", records, rows)
	}
}

func TestTextbookHeaders_ComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	it := newItem(12345)
	object, err := headerObject(it.envelope().Headers())
	if err != nil {
		t.Fatal(err)
	}
	headers, err := kafkaHeaders([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	rec := broker.Record{}
	for _, h := range headers {
		rec.Headers = append(rec.Headers, event.Header{Key: h.Key, Value: h.Value})
	}
	if n, err := numberOf(rec); err != nil || n != it.sequence || len(headers) != len(it.envelope().Headers()) {
		t.Errorf("number %d, %v, %d headers; want %d and all", n, err, len(headers), it.sequence)
	}
	if _, err := numberOf(broker.Record{}); err == nil {
		t.Error("a record without a number has one")
	}
}

func TestParseSaga_WantsTheRunAndTheVerdict(t *testing.T) {
	t.Parallel()
	const run = `{"kind":"run","data":{"rate":25,"seconds":10,"orders":250,"outcome":{"confirmed":249},"latency_ms":{"p50":70.5,"p99":150}}}` + "\n"
	const audit = `{"kind":"audit","data":{"clean":true}}` + "\n"
	got, clean, err := parseSaga([]byte(run + audit))
	if err != nil || !clean || got.Outcome["confirmed"] != 249 || got.Latency.P99 != 150 {
		t.Errorf("got %+v, clean %t, %v", got, clean, err)
	}
	for _, bad := range []string{"", run, audit, run + run + audit, "no JSON"} {
		if _, _, err := parseSaga([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestChoose_KeepsTheOrderAndRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	some, err := choose("latency,drain")
	if err != nil || len(some) != 2 || some[0].name != "drain" || some[1].name != "latency" {
		t.Errorf("got %v, %v", some, err)
	}
	if all, err := choose(""); err != nil || len(all) != len(sectionNames())-1 || has(all, "scale") {
		t.Errorf("got %d sections, %v", len(all), err)
	}
	if _, err := choose("drain,nonsense"); err == nil || !strings.Contains(err.Error(), strconv.Quote("nonsense")) {
		t.Errorf("got %v", err)
	}
}
