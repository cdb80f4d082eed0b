package faultproxy_test

import (
	"os"
	"testing"

	"pavane/internal/leaks"
	"pavane/shared/pgtest"
)

func TestMain(m *testing.M) {
	os.Exit(leaks.Main(func() int { return pgtest.Main(m) }))
}
