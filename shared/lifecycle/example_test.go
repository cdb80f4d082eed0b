package lifecycle_test

import (
	"context"
	"fmt"

	"pavane/shared/lifecycle"
)

func ExampleRun() {
	ctx, stop := context.WithCancel(context.Background())
	parts := []lifecycle.Part{
		{Name: "database", Stop: func(context.Context) error { fmt.Println("close the database"); return nil }},
		{Name: "http", Run: func(ctx context.Context) error { stop(); <-ctx.Done(); fmt.Println("http is down"); return nil }},
	}
	if err := lifecycle.Run(ctx, quiet(), parts...); err != nil {
		fmt.Println(err)
	}
	// Output:
	// http is down
	// close the database
}
