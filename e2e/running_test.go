package e2e_test

import (
	"syscall"
	"testing"
)

// part is one test of a demo that is shared with others.
type part struct {
	name string
	test func(*testing.T, *up)
}

// inTurn runs tests on one demo, one after the other: they end processes that the
// others need.
func inTurn(t *testing.T, parts ...part) {
	u := start(t, how{})
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.test(t, u.with(t)) })
	}
	u.audit()
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
	inTurn(t,
		part{"OfAllGroupsRewoundDuringARun_NoEffectChanges", testGroupsRewound},
		part{"OfAllInboxesForgotten_NoRowChanges", testOffsetsForgotten},
	)
}
