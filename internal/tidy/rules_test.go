package tidy_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pavane/internal/catalog"
	"pavane/internal/tidy"
)

// example is a small tree that breaks a rule, and the start of what the rule
// says about it; a tree with want "" must pass.
type example struct {
	rule  string
	files map[string]string
	want  string
}

func examples() []example {
	return slices.Concat(importExamples(), sizeExamples(), docExamples(), codeExamples(), textExamples(), partExamples())
}

func importExamples() []example {
	const policy, confined = "imports follow the policy", "modules of others stay where they belong"
	return []example{
		{policy, one("shared/event/x.go", `package event; import _ "pavane/shared/contract"`), "shared/event/x.go:1: shared/event may not import shared/contract"},
		{policy, one("shared/react/x.go", `package react; import _ "pavane/shared/contract"`), "shared/react/x.go:1: shared/react may not import shared/contract"},
		{policy, one("order-svc/internal/order/x.go", `package order; import _ "pavane/shared/outbox"`), "order-svc/internal/order/x.go:1: order-svc/internal/order may not import shared/outbox"},
		{policy, one("order-svc/main.go", `package main; import _ "pavane/payment-svc/internal/payment"`), "order-svc/main.go:1: order-svc may not import payment-svc/internal/payment"},
		{policy, one("order-svc/main.go", `package main; import _ "pavane/order-svc/internal/order"`), ""},
		{policy, one("shared/relay/x.go", `package relay; import _ "pavane/shared/pgtest"`), "shared/relay/x.go:1: shared/relay may not import shared/pgtest"},
		{policy, one("shared/relay/x_test.go", `package relay; import _ "pavane/shared/pgtest"`), ""},
		{policy, one("shared/novelty/x.go", `package novelty`), "shared/novelty/x.go:1: package shared/novelty has no line"},
		{confined, one("order-svc/internal/order/x.go", `package order; import _ "github.com/lib/pq"`), "order-svc/internal/order/x.go:1: only shared/postgres may import github.com/lib/pq"},
		{confined, one("shared/relay/x_test.go", `package relay; import _ "github.com/segmentio/kafka-go/protocol"`), "shared/relay/x_test.go:1: only shared/broker"},
		{confined, one("shared/service/x.go", `package service; import _ "github.com/kelseyhightower/envconfig"`), "shared/service/x.go:1: only shared/config"},
		{confined, one("shared/broker/x.go", `package broker; import _ "github.com/twmb/franz-go/pkg/kfake"`), "shared/broker/x.go:1: only shared/brokertest, internal/devstack"},
		{confined, one("shared/pgtest/x.go", `package pgtest; import _ "github.com/fergusstrange/embedded-postgres"`), "shared/pgtest/x.go:1: only internal/devstack"},
		{confined, one("shared/react/x.go", `package react; import _ "pgregory.net/rapid"`), "shared/react/x.go:1: only _test"},
		{confined, one("shared/react/x_test.go", `package react; import _ "pgregory.net/rapid"`), ""},
	}
}

func sizeExamples() []example {
	const function, file, page = "functions are at most 70 lines", "files are at most 400 lines of code", "main.go and saga.go of a service stay on a page"
	body := func(n int) string { return "package x\nfunc f() {\n" + strings.Repeat("_ = 1\n", n) + "}\n" }
	return []example{
		{function, one("x/x.go", body(68)), ""},
		{function, one("x/x.go", body(69)), "x/x.go:2: f has 71 lines"},
		{file, one("x/x.go", body(397)), ""},
		{file, one("x/x.go", body(398)), "x/x.go: 401 lines of code"},
		{file, one("x/x.go", body(397)+strings.Repeat("// a comment\n\n", 50)), ""},
		{file, one("x/x.go", "package x\nconst s = `"+strings.Repeat("text\n", 400)+"`\n"), "x/x.go: 402 lines of code"},
		{page, one("order-svc/main.go", body(98)), "order-svc/main.go: 101 lines, at most 100"},
		{page, one("order-svc/saga.go", body(38)), "order-svc/saga.go: 41 lines, at most 40"},
		{page, one("order-svc/saga.go", body(37)), ""},
	}
}

func docExamples() []example {
	const pkg, export = "every package says what it owns", "every export is documented"
	return []example{
		{pkg, one("x/x.go", "package x"), "x: no package comment"},
		{pkg, one("x/x.go", "// Owns nothing.\npackage x"), `x/x.go:2: begin the package comment with "Package x "`},
		{pkg, one("x/main.go", "// Package main is it.\npackage main"), `x/main.go:2: begin the package comment with "Command "`},
		{pkg, map[string]string{"x/a.go": "// Package x is.\npackage x", "x/b.go": "// Package x is.\npackage x"}, "x: 2 package comments"},
		{pkg, one("x/x_test.go", "// Package x_test is tests only.\npackage x_test"), ""},
		{export, one("x/x.go", "package x\nfunc F() {}"), "x/x.go:2: F has no comment"},
		{export, one("x/x.go", "package x\n// T is.\ntype T[E any] struct{}\nfunc (t *T[E]) M() {}"), "x/x.go:4: M has no comment"},
		{export, one("x/x.go", "package x\ntype t struct{}\nfunc (t) M() {}"), ""},
		{export, one("x/x.go", "package x\ntype T int"), "x/x.go:2: T has no comment"},
		{export, one("x/x.go", "package x\nconst C = 1"), "x/x.go:2: C has no comment"},
		{export, one("x/x.go", "package x\n// These are.\nconst (\nA = 1\nB = 2\n)"), ""},
		{export, one("x/x.go", "package x\n// These are.\ntype (\nA int\n)"), "x/x.go:4: A has no comment"},
	}
}

func codeExamples() []example {
	const (
		globals, clock = "no globals but sentinel errors, embedded files and patterns", "a domain takes its time from the database or a clock"
		sleep, panics  = "tests wait for signals, not for time", "panics are for constructors"
		receiver, ctx  = "receivers have one or two letters", "the context comes first"
	)
	return []example{
		{"no init", one("x/x.go", "package x\nfunc init() {}"), "x/x.go:2: no init"},
		{"no init", one("x/x.go", "package x\nfunc (t) init() {}"), ""},
		{globals, one("x/x.go", "package x\nvar count int"), "x/x.go:2: count is a global"},
		{globals, one("x/x.go", "package x\nvar table = map[string]int{}"), "x/x.go:2: table is a global"},
		{globals, one("x/x.go", "package x\nvar errX = errors.New(`x`)\nvar re = regexp.MustCompile(`x`)\nvar _ I = T{}\n//go:embed f\nvar f []byte"), ""},
		{clock, one("payment-svc/internal/payment/x.go", "package payment\nvar t = time.Now()"), "payment-svc/internal/payment/x.go:2: no clock of the process"},
		{clock, one("payment-svc/internal/payment/x.go", "package payment\nvar clock = time.Now"), "payment-svc/internal/payment/x.go:2: no clock of the process"},
		{clock, one("shared/relay/x.go", "package relay\nvar t = time.Now()"), ""},
		{sleep, one("x/x_test.go", "package x\nfunc f() { time.Sleep(1) }"), "x/x_test.go:2: no time.Sleep in tests"},
		{sleep, one("shared/pgtest/x.go", "package pgtest\nfunc f() { time.Sleep(1) }"), "shared/pgtest/x.go:2: no time.Sleep in tests"},
		{sleep, one("x/x_test.go", "package x\nfunc f() { synctest.Test(t, func() { time.Sleep(1) }) }"), ""},
		{sleep, one("x/x_test.go", "package x\nfunc f() { synctest.Test(t, nil) }\nfunc g() { time.Sleep(1) }"), "x/x_test.go:3: no time.Sleep in tests"},
		{panics, one("x/x.go", "package x\nfunc f() { panic(1) }"), "x/x.go:2: panic outside a constructor"},
		{panics, one("x/x.go", "package x\nfunc NewX() { panic(1) }\nfunc mustX() { panic(1) }\nfunc f() {\npanic(1) // the name is a constant\n}"), ""},
		{receiver, one("x/x.go", "package x\nfunc (self *T) M() {}"), "x/x.go:2: receiver self"},
		{ctx, one("x/x.go", "package x\nfunc f(a int, ctx context.Context) {}"), "x/x.go:2: the context comes first"},
		{ctx, one("x/x.go", "package x\ntype i interface{ f(a int, ctx context.Context) }"), "x/x.go:2: the context comes first"},
		{ctx, one("x/x_test.go", "package x\nfunc f(t *testing.T, ctx context.Context) {}"), ""},
	}
}

func textExamples() []example {
	const tests = "documents name tests that exist"
	const (
		star, todo    = "statements list their columns", "what is left to do has an issue"
		paths, hosts  = "no path of the machine it was built on", "no host but public ones that readers need"
		title, target = "a Markdown file has one title", "documents name Makefile targets that exist"
		vars, links   = "documents name variables that exist", "links in documents lead to files that exist"
	)
	return []example{
		{star, one("x/x.go", "package x\nconst q = `select * from t`"), "x/x.go:2: list the columns"},
		{star, one("migrations/kit/1.sql", "create view v as SELECT\tt.* from t"), "migrations/kit/1.sql:1: list the columns"},
		{star, one("x/x.go", "package x\nconst q = `select count(*) from t`"), ""},
		{todo, one("x/x.go", "package x // TODO: later"), "x/x.go:1: TODO without an issue"},
		{todo, one("x/x.go", "package x // TODO(#12): later"), ""},
		{paths, one("a.md", "# A\nsee `/home/ada/x`"), `a.md:2: "` + "`/home/ada/x" + `" is a path of one machine`},
		{paths, one("deploy/x.yaml", "dir: /root/x"), `deploy/x.yaml:1: "/root/x" is a path of one machine`},
		{paths, one("a.md", "# A\nhttps://github.com/x/root/y and at work/home"), ""},
		{hosts, one("x.yaml", "url: https://go.mirror.corp/x"), "x.yaml:1: host go.mirror.corp is not among"},
		{hosts, one("x.yaml", "url: http://registry:5000/x"), "x.yaml:1: host registry is not among"},
		{hosts, one("x.yaml", "url: http://gateway:8080/ http://shop.example.com/"), ""},
		{title, one("a.md", "text"), "a.md: 0 titles"},
		{title, one("a.md", "# A\n# B\n"), "a.md: 2 titles"},
		{title, one("a.md", "# A\n```\n# a comment\n```\n## B\n"), ""},
		{target, map[string]string{"a.md": "# A\nrun `make tea`", "Makefile": "test: build ## x\n"}, "a.md:2: the Makefile has no target tea"},
		{target, map[string]string{"a.md": "# A\nrun `make test` and make sure", "Makefile": "test: build ## x\n"}, ""},
		{vars, map[string]string{"a.md": "# A\nset PAVANE_TEA", "x/x.go": "package x // PAVANE_MILK"}, "a.md:2: PAVANE_TEA is read by nobody"},
		{vars, map[string]string{"a.md": "# A\nset PAVANE_TEA_FILE", "README.md": "# R\n| `PAVANE_TEA` | x |"}, ""},
		{tests, map[string]string{"a.md": "# A\nsee `TestTea_IsHot` and `TestTea_IsCold`", "x/x_test.go": "package x\nfunc TestTea_IsHot() {}"}, "a.md:2: there is no test TestTea_IsCold"},
		{links, one("docs/a.md", "# A\n[x](../b.md)"), "docs/a.md:2: link to ../b.md"},
		{links, map[string]string{"docs/a.md": "# A\n[x](../b/c.md#d) [y](../b) [z](#here)", "b/c.md": "# C"}, ""},
	}
}

func partExamples() []example {
	const migrations, service = "migrations are numbered without a gap", "a service has main.go and config.go"
	const validations = "no migration adds a check and validates it"
	return []example{
		{migrations, one("migrations/kit/00002_x.sql", ""), "migrations/kit: migration 2 stands where 1 is due"},
		{migrations, map[string]string{"migrations/kit/00001_x.sql": "", "migrations/kit/00001_y.sql": ""}, "migrations/kit: migration 1 stands where 2 is due"},
		{migrations, one("migrations/kit/1_x.sql", ""), "migrations/kit/1_x.sql: name a migration"},
		{migrations, map[string]string{"migrations/kit/00001_x.sql": "", "migrations/kit/00002_y.sql": ""}, ""},
		{validations, one("migrations/kit/00001_x.sql", "alter table t add constraint c check (n > 0) not valid;\nALTER TABLE t VALIDATE CONSTRAINT c;"), "migrations/kit/00001_x.sql: NOT VALID and VALIDATE"},
		{validations, map[string]string{
			"migrations/kit/00001_x.sql": "alter table t add constraint c check (n > 0) not valid; -- who will validate constraint c?",
			"migrations/kit/00002_y.sql": "alter table t validate constraint c; -- it was not valid",
		}, ""},
		{service, one("tea-svc/main.go", "package main"), "tea-svc: no config.go"},
	}
}

func TestRules_BadExamples_AreFound(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	for _, e := range examples() {
		tree, err := tidy.Load(mapFS(e.files))
		if err != nil {
			t.Fatalf("%v: %v", e.files, err)
		}
		i := slices.IndexFunc(tidy.Rules(), func(r tidy.Rule) bool { return r.Name == e.rule })
		if i < 0 {
			t.Fatalf("no rule %q", e.rule)
		}
		found := tidy.Rules()[i].Find(tree)
		switch {
		case e.want == "" && len(found) > 0:
			t.Errorf("%s: %v: found %v, want nothing", e.rule, e.files, found)
		case e.want != "" && (len(found) != 1 || !strings.HasPrefix(found[0].String(), e.want)):
			t.Errorf("%s: %v: found %v, want %q", e.rule, e.files, found, e.want)
		}
		tried[e.rule] = tried[e.rule] || e.want != ""
	}
	for _, r := range tidy.Rules() {
		if !tried[r.Name] {
			t.Errorf("rule %q has no bad example", r.Name)
		}
	}
}

func TestEvents_WithoutGoldenOrReader_AreFound(t *testing.T) {
	t.Parallel()
	tree, err := tidy.Load(mapFS(one("shared/contract/schema/tea.made.v1.json", "{}")))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, v := range tree.Events(catalog.Catalogue{Events: []catalog.Event{{Kind: "tea.made.v1"}}}) {
		texts = append(texts, v.String())
	}
	for _, want := range []string{"testdata/tea.made.v1.json: missing", "no service emits it", "no service reads it"} {
		if !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("want %q among %q", want, texts)
		}
	}
}

func TestLoad_WhatGitDoesNotKeep_IsLeftOut(t *testing.T) {
	t.Parallel()
	tree, err := tidy.Load(mapFS(map[string]string{
		".gitignore": "/bin/\n*.log\n", "bin/x.md": "text", ".git/x.md": "text", "a/bin/x.md": "text", "b/x.png": "\x00",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range tree.Files {
		paths = append(paths, f.Path)
	}
	if !slices.Equal(paths, []string{".gitignore", "a/bin/x.md"}) {
		t.Errorf("loaded %v", paths)
	}
	if !slices.Equal(tree.Others, []string{"b/x.png"}) {
		t.Errorf("others are %v", tree.Others)
	}
}

func one(name, text string) map[string]string { return map[string]string{name: text} }

func mapFS(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}
