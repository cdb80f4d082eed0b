package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

type database struct {
	URL      string `default:"postgres://app@localhost/orders" desc:"where the database is"`
	Password string `secret:"true" desc:"password of the role"`
	MaxConns int    `default:"8"`
}

func (d database) Validate() error {
	if d.MaxConns < 1 {
		return fmt.Errorf("MAX_CONNS=%d is below 1: give each process at least one connection", d.MaxConns)
	}
	return nil
}

type settings struct {
	Common
	HTTPAddr string        `default:"127.0.0.1:0" desc:"where to listen"`
	Deadline time.Duration `default:"30s"`
	Brokers  []string      `required:"true"`
	APIToken string        `secret:"true" required:"true"`
	User     string        `envconfig:"USER"`
	Database database
	Note     string `ignored:"true"`
}

// Common is embedded, so its fields stand beside those of settings.
type Common struct {
	Verbose bool `desc:"say more"`
}

func (s settings) Validate() error {
	if s.Deadline > time.Hour {
		return errors.New("DEADLINE is over an hour: shorten it")
	}
	return nil
}

// environment is a set of variables of a test.
type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

func valid() environment {
	return environment{"PAVANE_BROKERS": "a:1,b:2", "PAVANE_API_TOKEN": "t0ken"}
}

func TestLoad_NothingButRequiredSet_TakesDefaults(t *testing.T) {
	t.Parallel()
	var got settings
	if err := load(valid().lookup, "PAVANE", &got); err != nil {
		t.Fatal(err)
	}
	want := settings{
		HTTPAddr: "127.0.0.1:0", Deadline: 30 * time.Second, Brokers: []string{"a:1", "b:2"}, APIToken: "t0ken",
		Database: database{URL: "postgres://app@localhost/orders", MaxConns: 8},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoad_NestedAndEmbedded_NamesFollowTheStruct(t *testing.T) {
	t.Parallel()
	env := valid()
	env["PAVANE_DATABASE_MAX_CONNS"] = "3"
	env["PAVANE_VERBOSE"] = "true"
	env["PAVANE_HTTP_ADDR"] = ":80"
	var got settings
	if err := load(env.lookup, "PAVANE", &got); err != nil {
		t.Fatal(err)
	}
	if got.Database.MaxConns != 3 || !got.Verbose || got.HTTPAddr != ":80" {
		t.Errorf("got %+v", got)
	}
}

func TestLoad_TaggedName_NeverFallsBackToTheNameWithoutPrefix(t *testing.T) {
	t.Parallel()
	env := valid()
	env["USER"] = "root"
	var got settings
	if err := load(env.lookup, "PAVANE", &got); err != nil {
		t.Fatal(err)
	}
	if got.User != "" {
		t.Errorf("USER leaked into the configuration: %q", got.User)
	}
	env["PAVANE_USER"] = "app"
	if err := load(env.lookup, "PAVANE", &got); err != nil || got.User != "app" {
		t.Errorf("PAVANE_USER: got %q, %v", got.User, err)
	}
}

func TestLoad_SecretFile_IsReadAndTrimmed(t *testing.T) {
	t.Parallel()
	env := valid()
	delete(env, "PAVANE_API_TOKEN")
	env["PAVANE_API_TOKEN_FILE"] = write(t, "  from-file\n")
	var got settings
	if err := load(env.lookup, "PAVANE", &got); err != nil {
		t.Fatal(err)
	}
	if got.APIToken != "from-file" {
		t.Errorf("got %q", got.APIToken)
	}
}

func TestLoad_WrongValue_NamesVariableValueAndRemedy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  environment // over the valid ones
		want []string
	}{
		"required missing":  {environment{"PAVANE_BROKERS": ""}, []string{"PAVANE_BROKERS is not set", "commas"}},
		"not a duration":    {environment{"PAVANE_DEADLINE": "ten"}, []string{`PAVANE_DEADLINE="ten"`, "500ms"}},
		"not a number":      {environment{"PAVANE_DATABASE_MAX_CONNS": "x"}, []string{`PAVANE_DATABASE_MAX_CONNS="x"`, "whole number"}},
		"out of range":      {environment{"PAVANE_DATABASE_MAX_CONNS": "99999999999999999999"}, []string{"out of range"}},
		"empty number":      {environment{"PAVANE_DATABASE_MAX_CONNS": ""}, []string{"PAVANE_DATABASE_MAX_CONNS is set but empty"}},
		"nested Validate":   {environment{"PAVANE_DATABASE_MAX_CONNS": "0"}, []string{"PAVANE_DATABASE: MAX_CONNS=0"}},
		"Validate":          {environment{"PAVANE_DEADLINE": "2h"}, []string{"PAVANE: DEADLINE is over an hour"}},
		"secret both ways":  {environment{"PAVANE_API_TOKEN_FILE": "/x"}, []string{"PAVANE_API_TOKEN and PAVANE_API_TOKEN_FILE are both set"}},
		"secret file away":  {environment{"PAVANE_DATABASE_PASSWORD_FILE": "/does/not/exist"}, []string{`PAVANE_DATABASE_PASSWORD_FILE="/does/not/exist"`, "readable file"}},
		"secret file empty": {environment{"PAVANE_DATABASE_PASSWORD_FILE": write(t, "\n")}, []string{"is empty"}},
		"secret file large": {environment{"PAVANE_DATABASE_PASSWORD_FILE": write(t, strings.Repeat("x", secretFileLimit+1))}, []string{"larger than"}},
		"two at once":       {environment{"PAVANE_DEADLINE": "ten", "PAVANE_VERBOSE": "maybe"}, []string{"PAVANE_DEADLINE", "PAVANE_VERBOSE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := valid()
			for k, v := range c.set {
				env[k] = v
			}
			err := load(env.lookup, "PAVANE", &settings{})
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not contain %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "t0ken") {
				t.Errorf("error shows a secret: %v", err)
			}
		})
	}
}

// lockKey is a secret with a form.
type lockKey string

func (k *lockKey) UnmarshalText(b []byte) error { return fmt.Errorf("%q is no key", b) }

func TestLoad_SecretOfWrongForm_IsNotShown(t *testing.T) {
	t.Parallel()
	var cfg struct {
		Key lockKey `secret:"true"`
	}
	err := load(environment{"PAVANE_KEY": "t0ken"}.lookup, "PAVANE", &cfg)
	if err == nil || strings.Contains(err.Error(), "t0ken") || !strings.Contains(err.Error(), "PAVANE_KEY") {
		t.Errorf("got %v", err)
	}
}

func TestLoad_StructThatCannotWork_IsRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]any{
		"no pointer": settings{},
		"two of one name": &struct {
			A, B string `envconfig:"SAME"`
		}{},
		"secret no string": &struct {
			N int `secret:"true"`
		}{},
		"pointer to string": new(string),
	} {
		if err := load(environment{}.lookup, "PAVANE", cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDump_SecretsAndURLPasswords_AreMasked(t *testing.T) {
	t.Parallel()
	env := valid()
	env["PAVANE_DATABASE_URL"] = "postgres://app:hunter2@db/orders"
	env["PAVANE_DATABASE_PASSWORD"] = "hunter3"
	var cfg settings
	if err := load(env.lookup, "PAVANE", &cfg); err != nil {
		t.Fatal(err)
	}
	attrs, err := Dump("PAVANE", &cfg)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(attrs)
	for _, secret := range []string{"t0ken", "hunter2", "hunter3"} {
		if strings.Contains(text, secret) {
			t.Errorf("dump shows %q: %s", secret, text)
		}
	}
	if !strings.Contains(text, "PAVANE_DATABASE_URL=postgres://app:********@db/orders") {
		t.Errorf("dump hides more than the password: %s", text)
	}
}

func TestTable_DescribesEveryVariableOnce(t *testing.T) {
	t.Parallel()
	rows, err := Table("PAVANE", &settings{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Variable)
	}
	want := []string{
		"PAVANE_VERBOSE", "PAVANE_HTTP_ADDR", "PAVANE_DEADLINE", "PAVANE_BROKERS", "PAVANE_API_TOKEN",
		"PAVANE_USER", "PAVANE_DATABASE_URL", "PAVANE_DATABASE_PASSWORD", "PAVANE_DATABASE_MAX_CONNS",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got  %v\nwant %v", names, want)
	}
	if r := rows[1]; r.Type != "string" || r.Default != "127.0.0.1:0" || r.Meaning != "where to listen" || r.Secret {
		t.Errorf("row %+v", r)
	}
	if r := rows[4]; !r.Secret || !r.Required {
		t.Errorf("row %+v", r)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMistyped_AllButTheNameOfASetting_IsRefused(t *testing.T) {
	t.Parallel()
	var cfg struct {
		HTTPAddr string
		Backlog  int
		Key      string `secret:"true"`
	}
	for name, want := range map[string]string{
		"PAVANE_BACKLG":    "PAVANE_BACKLOG",
		"PAVANE_BACKLOGS":  "PAVANE_BACKLOG",
		"PAVANE_BACKLOK":   "PAVANE_BACKLOG",
		"PAVANE_BAKCLOG":   "PAVANE_BACKLOG",
		"PAVANE_BACKLGO":   "PAVANE_BACKLOG",
		"PAVANE_HTTPADDR":  "PAVANE_HTTP_ADDR",
		"PAVANE_KEY_FILES": "PAVANE_KEY_FILE",
		"PAVANE_HTTP_ADDR": "",
		"PAVANE_KEY_FILE":  "",
		"PAVANE_SMTP_ADDR": "", // of another service
		"PAVANE_":          "",
		"BACKLOG":          "",
		"OTHER_BACKLG":     "",
	} {
		err := mistyped([]string{"HOME=/", name + "=secret=7"}, "pavane", &cfg)
		if want == "" && err != nil {
			t.Errorf("%s: %v; want that it is left alone", name, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), name+" is set and no setting: name it "+want+",") || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v; want %s named", name, err, want)
		}
	}
	if err := mistyped([]string{"PAVANE_BACKLOG=1", "PAVANE_BACKLOGS=2"}, "PAVANE", &cfg); err != nil {
		t.Errorf("%v; want that a name beside the right one is left alone", err)
	}
}
