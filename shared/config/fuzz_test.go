package config

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// everyType has a setting of each type that the services use.
type everyType struct {
	Text   string
	Secret string `secret:"true"`
	List   []string
	Pairs  map[string]string
	Number int
	Small  uint8
	Ratio  float64
	Flag   bool
	Wait   time.Duration
	Level  slog.Level
}

func FuzzLoad(f *testing.F) {
	for _, text := range []string{"", "a", "a:1,b:2", "30s", "info+3", "-1", "1e9", "true", "\"`\\\n", "\x00\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, variable := range []string{"F_TEXT", "F_SECRET", "F_LIST", "F_PAIRS", "F_NUMBER", "F_SMALL", "F_RATIO", "F_FLAG", "F_WAIT", "F_LEVEL"} {
			var c everyType
			err := load(func(asked string) (string, bool) {
				if asked == variable {
					return text, true
				}
				return "", false
			}, "F", &c)
			if err != nil && !strings.Contains(err.Error(), variable) {
				t.Fatalf("the error does not name %s: %v", variable, err)
			}
			if err != nil && (variable == "F_TEXT" || variable == "F_SECRET") {
				t.Fatalf("%s refuses a text: %v", variable, err)
			}
			if got := c.Text + c.Secret; err == nil && (variable == "F_TEXT" || variable == "F_SECRET") && got != text {
				t.Fatalf("%s is %q, set was %q", variable, got, text)
			}
		}
	})
}
