package page_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// pairs are what stands on what, and the least ratio: 4.5 for text and 3 for
// what only has to be seen (WCAG 2.2, 1.4.3 and 1.4.11).
var pairs = []struct {
	front, back string
	least       float64
}{
	{"ink", "bg", 4.5},
	{"ink", "panel", 4.5},
	{"ink", "raised", 4.5},
	{"ink", "accent-soft", 4.5},
	{"ink", "failure-soft", 4.5},
	{"muted", "bg", 4.5},
	{"muted", "panel", 4.5},
	{"muted", "raised", 4.5},
	{"muted", "accent-soft", 4.5},
	{"muted", "failure-soft", 4.5},
	{"accent", "bg", 4.5},
	{"accent", "panel", 4.5},
	{"accent", "accent-soft", 4.5},
	{"on-accent", "accent", 4.5},
	{"good", "panel", 4.5},
	{"good", "good-soft", 4.5},
	{"good", "raised", 4.5},
	{"good", "accent-soft", 4.5},
	{"failure", "panel", 4.5},
	{"failure", "failure-soft", 4.5},
	{"failure", "raised", 4.5},
	{"failure", "accent-soft", 4.5},
	{"comp", "panel", 4.5},
	{"comp", "comp-soft", 4.5},
	{"comp", "raised", 4.5},
	{"comp", "accent-soft", 4.5},
	{"comp", "failure-soft", 4.5},
	{"edge", "panel", 3},
	{"comp", "bg", 3},
	{"good", "bg", 3},
}

var variable = regexp.MustCompile(`--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)`)

func TestColours_InBothThemes_HaveTheContrastOfWCAG(t *testing.T) {
	t.Parallel()
	css, err := os.ReadFile("files/style.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]string{}
	for _, m := range variable.FindAllStringSubmatch(string(css), -1) {
		colours[m[1]] = [2]string{m[2], m[3]}
	}
	for _, p := range pairs {
		for i, theme := range []string{"light", "dark"} {
			front, back := colours[p.front][i], colours[p.back][i]
			if front == "" || back == "" {
				t.Fatalf("no colour %s or %s in style.css", p.front, p.back)
			}
			if r := ratio(luminance(t, front), luminance(t, back)); r < p.least {
				t.Errorf("%s: %s on %s has %.2f, want %.1f", theme, p.front, p.back, r, p.least)
			}
		}
	}
}

func ratio(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex[1:], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	channel := func(shift int) float64 {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
}
