package gateway

import (
	"strconv"
	"strings"
	"time"
)

// maxWait bounds how long a client may let a request wait.
const maxWait = 30 * time.Second

// waitOf reads the preference "wait" (RFC 7240, 4.3): how long the client is
// willing to wait, in seconds. More than maxWait counts as maxWait. Preferences
// that are unknown or malformed are to be ignored (RFC 7240, 2), so they give 0.
func waitOf(headers []string) time.Duration {
	for _, header := range headers {
		for preference := range strings.SplitSeq(header, ",") {
			preference, _, _ = strings.Cut(preference, ";") // parameters
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err != nil {
				return 0
			}
			return min(time.Duration(seconds)*time.Second, maxWait) // the first of equal names counts
		}
	}
	return 0
}
