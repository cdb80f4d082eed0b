package e2e_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pavane/internal/audit"
)

// part is one test of a demo that is shared with others.
type part struct {
	name string
	test func(*testing.T, *up)
}

// inTurn runs tests on one demo, one after the other: they end processes that the
// others need. It returns the demo, audited.
func inTurn(t *testing.T, parts ...part) *up {
	u := start(t, how{})
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.test(t, u.with(t)) })
	}
	u.audit()
	return u
}

func TestGateway(t *testing.T) {
	t.Parallel()
	inTurn(t,
		part{"BadInput_IsRefusedWithAReasonAndLeavesNoRow", testBadInput},
		part{"PreferWait_AnswersTheDecisionOrWhereToLook", testPrefer},
		part{"KilledWhileAClientWaits_TheSameKeyGetsTheSameOrder", func(t *testing.T, u *up) { testGatewayEnds(t, u, syscall.SIGKILL) }},
		part{"StoppedWhileAClientWaits_TheSameKeyGetsTheSameOrder", func(t *testing.T, u *up) { testGatewayEnds(t, u, syscall.SIGTERM) }},
	)
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	u := inTurn(t,
		part{"OfAllGroupsRewoundDuringARun_NoEffectChanges", testGroupsRewound},
		part{"OfAllInboxesForgotten_NoRowChanges", testOffsetsForgotten},
	)
	auditInParts(t, u)
}

// auditInParts has the audit look at few orders at a time: it must find what it finds
// when it looks at all at once, of what belongs to an order and of what belongs to none.
func auditInParts(t *testing.T, u *up) {
	verdict := func(args ...string) (v audit.Verdict) {
		args = append([]string{"audit", "--dir", u.Dir, "--json", "--settle", "0s"}, args...)
		out, err := exec.Command(filepath.Join(u.Bin, "pavane"), args...).Output()
		if json.Unmarshal(out, &v) != nil {
			t.Fatalf("pavane audit: %v\n%s", err, out)
		}
		v.Seconds = 0
		slices.SortFunc(v.Differences, func(a, b audit.Difference) int { return strings.Compare(a.Text, b.Text) })
		return v
	}
	same := func() audit.Verdict {
		whole, parts := verdict(), verdict("--at-once", "2")
		if !reflect.DeepEqual(whole, parts) {
			t.Errorf("two orders at a time: %+v\nall at once: %+v", parts, whole)
		}
		return whole
	}
	if v := same(); !v.Clean || v.Orders < 5 || v.Records < 4*v.Orders {
		t.Errorf("want a clean audit of some orders and their records, got %+v", v)
	}
	for database, harm := range map[string]string{
		"orders":    `delete from outbox where id in (select max(id) from outbox group by key order by 1 limit 3)`,
		"payments":  `update payments set version = version + 1 where order_id in (select order_id from payments order by 1 limit 4)`,
		"inventory": `alter table stock disable trigger user; update stock set available = available - 1 where sku in (select sku from stock where available > 0 limit 1)`,
	} {
		exec1(t, u.database(database), harm)
	}
	found := map[string]int{}
	for _, d := range same().Differences {
		found[d.Check]++
	}
	for check, n := range map[string]int{"log-in-outbox": 3, "versions": 4, "stock": 1} {
		if found[check] < n {
			t.Errorf("%s: %d differences, want %d or more: %v", check, found[check], n, found)
		}
	}
}
