package failpoint_test

import (
	"context"
	"fmt"

	"pavane/shared/failpoint"
)

// The code under test passes its points; only a context with a set makes them
// do anything.
func ExampleHit() {
	save := func(ctx context.Context) error {
		if err := failpoint.Hit(ctx, "shop.before_save"); err != nil {
			return err
		}
		fmt.Println("saved")
		return nil
	}
	set, err := failpoint.Parse("shop.before_save=error@2")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := failpoint.With(context.Background(), set)
	for range 3 {
		if err := save(ctx); err != nil {
			fmt.Println("failed")
		}
	}
	fmt.Println(set.Hits()["shop.before_save"], "hits")
	// Output:
	// saved
	// failed
	// saved
	// 3 hits
}
