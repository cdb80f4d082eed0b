package faultproxy_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"pavane/shared/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
