package brokertest_test

import (
	"fmt"

	"pavane/shared/brokertest"
	"pavane/shared/pgtest"
)

// In a test, t is the test's own.
func ExampleStart() {
	t, end := pgtest.ForExample()
	defer end()
	addr := brokertest.Start(t)
	fmt.Println(addr != "")
	first, second := brokertest.Topic(t, addr, 3), brokertest.Topic(t, addr, 3)
	fmt.Println(first != second)
	// Output:
	// true
	// true
}
