package retry_test

import (
	"context"
	"fmt"
	"time"

	"pavane/shared/retry"
)

func ExamplePause() {
	pause := retry.Pause(4, time.Second, time.Minute)
	fmt.Println(pause >= 4*time.Second, pause < 8*time.Second)
	// Output: true true
}

func ExampleText() {
	fmt.Println(retry.Text("no\x00 such\xff mailbox"))
	// Output: no? such? mailbox
}

// A call that is under way when the process is told to stop gets a second more.
func ExampleOutlive() {
	ctx, stop := context.WithCancel(context.Background())
	call, end := retry.Outlive(ctx, time.Second)
	defer end()
	stop()
	fmt.Println(ctx.Err(), call.Err())
	// Output: context canceled <nil>
}

// Who writes work rings after the commit; who does it looks now and then, too.
func ExampleBell() {
	bell := retry.NewBell()
	bell.Ring()
	bell.Ring()
	bell.Wait(context.Background(), time.Hour)
	fmt.Println("there is work")
	// Output: there is work
}

func ExampleNewBell() {
	none := retry.Bell(nil)
	none.Wait(context.Background(), time.Millisecond)
	fmt.Println(cap(retry.NewBell()), cap(none))
	// Output: 1 0
}
