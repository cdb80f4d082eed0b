package audit

import (
	"strings"
	"testing"
)

func TestRun_UnreadableURL_ShowsNothingOfThePassword(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"postgres://shop:hunter2%@h", "postgres://shop:hunter2/x@h", "postgres//shop:hunter2@h"} {
		if _, err := Run(t.Context(), Source{Postgres: bad}, 0); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "percent-encode") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
