package lifecycle

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Signals returns a context that ends with the first SIGTERM or SIGINT; its
// cause names the signal. A second one ends the process with status 1 at once,
// for the operator who does not want to wait. Call stop to give the signals back
// and to leave nothing running.
func Signals(ctx context.Context) (signalled context.Context, stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	signalled, cancel := context.WithCancelCause(ctx)
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for first := true; ; first = false {
			select {
			case s := <-signals:
				if !first {
					os.Exit(1)
				}
				cancel(fmt.Errorf("signal %s", s))
			case <-quit:
				return
			}
		}
	}()
	return signalled, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(quit)
		<-gone
		cancel(context.Canceled)
	})
}
