package broker_test

import (
	"testing"

	"pavane/shared/brokertest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, brokertest.Start(t))
}
