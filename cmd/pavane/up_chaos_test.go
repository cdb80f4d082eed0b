package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pavane/cmd/pavane/internal/control"
	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
)

// lacking is a system on which nothing can be broken.
type lacking struct{ fault.Driver }

func (lacking) Missing(context.Context, string) error { return errors.New("install it") }

func TestChaosIn_WhatCannotBe_IsSaidBeforeAnythingBreaks(t *testing.T) {
	t.Parallel()
	run := chaosIn(lacking{}, stack.State{}, func(string, ...any) {})
	for want, o := range map[string]control.ChaosOrder{
		"want --for":             {For: time.Second},
		"--every":                {Every: time.Nanosecond},
		"--rate":                 {Rate: -1},
		"there is no fault":      {Kinds: []string{"melt"}},
		"install it":             {Kinds: []string{"clock"}},
		"up to 1000":             {Rate: 1001},
		"from 10s to 24h":        {For: 25 * time.Hour},
		"want one of kill, rest": {Kinds: []string{""}},
	} {
		rep, err := run(t.Context(), o, func(error) { t.Error("it began") }, func(string, ...any) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %+v, %v; want %q", o, rep, err, want)
		}
	}
}
