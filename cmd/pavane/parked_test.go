package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pavane/shared/inbox"
	"pavane/shared/parked"
)

func TestOperator_BadInput_IsOneLineThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"parked redrive --why x":                   "give --key, --cause or both",
		"parked redrive --key k":                   "--why is missing",
		"parked discard --key k --why x --who=":    "--who is missing",
		"parked redrive --cause nope --why x":      `--cause "nope": choose one of fault, gap`,
		"parked list --service nope":               `--service "nope": choose one of order-svc`,
		"parked discard --key k --why x --rate -2": "want keys per second",
		"parked redrive --key k --why x --forged":  "unknown flag",

		"parked redrive --key k --why x --skip-missing":          "unknown flag",
		"parked discard --key k --why x --forged --skip-missing": "[forged skip-missing] were all set",

		"parked list --limit -1":                    "--limit -1: want keys from 0 on",
		"parked discard --key k --why x --rate NaN": "want keys per second",

		"saga show o --partitions 0":   "--partitions 0: want those of each topic",
		"order --rate -5":              "--rate -5: want orders per second from 0 to 1000",
		"order --rate 2e9":             "--rate 2e+09: want orders per second",
		"order --rate NaN":             "--rate NaN: want orders per second",
		"break broker --orders 2e9":    "--orders 2e+09: want orders per second",
		"chaos --plan --rate NaN":      "--rate above 0 and up to 1000",
		"bench saga --rate NaN":        "--rate above 0 and up to 10000",
		"up --smoke --dir /tmp/pavane": "[dir smoke] were all set",
		"up --smoke --port 9000":       "[port smoke] were all set",

		"parked show":  "accepts 1 arg",
		"outbox adopt": "accepts 1 arg",

		"outbox replay":                                               "--to is missing",
		"outbox replay --to t --since yesterday":                      `--since "yesterday": want a time like`,
		"outbox replay --to t --until 2026-13-01T00:00:00Z":           "--until",
		"outbox adopt nope --postgres postgres://x --kafka x:1":       `service "nope": choose one of order-svc`,
		"parked list --dir " + t.TempDir():                            "",
		"parked redrive --key k --why x --dir " + t.TempDir():         "",
		"outbox replay --to t --dir " + t.TempDir():                   "",
		"parked discard --cause fault --dry-run --dir " + t.TempDir(): "",
	} {
		c := root()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(strings.Fields(line))
		err := c.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || out.Len() > 0 {
			t.Errorf("pavane %s: %v, output %q; want one line with %q", line, err, out.String(), want)
		}
	}
}

func TestList_WhatStrangersWrote_CannotMoveTheCursorOrFillTheScreen(t *testing.T) {
	t.Parallel()
	k := parked.Key{Key: "\x1b[2J\r\n", Cause: inbox.Fault, Reason: strings.Repeat("x", 5000), Since: time.Now()}
	var out bytes.Buffer
	if err := printGroups(&out, groups([]found{{"a", k}, {"a", k}, {"b", k}}), 1); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.ContainsAny(text, "\x1b\r") || len(text) > 2000 {
		t.Errorf("printed %q", text)
	}
	for _, want := range []string{"a: fault: 2 keys", "… and 1 more", "b: fault: 1 key,"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %s", want, text)
		}
	}
}
