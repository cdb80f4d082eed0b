package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// onceFor is how long an address that leads on once waits for its browser.
const onceFor = time.Minute

// once returns an address of this machine that leads to url once, and then no
// more. A browser is told where to go by its command line, which every user of the
// machine can read; url, with the tokens it carries, does not stand there.
func once(ctx context.Context, url string) (string, error) {
	var listening net.ListenConfig
	l, err := listening.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	ctx, done := context.WithTimeout(ctx, onceFor)
	path := "/" + rand.Text()
	var used atomic.Bool
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.URL.Path), []byte(path)) != 1 || !used.CompareAndSwap(false, true) {
			http.Error(w, "this address led on once; the page's own stands in the terminal", http.StatusGone)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, url, http.StatusSeeOther)
		done()
	})}
	go server.Serve(l) //nolint:errcheck // it ends when it is shut down
	go func() {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		server.Shutdown(ending) //nolint:errcheck // a browser that hangs is let go
	}()
	return "http://" + l.Addr().String() + path, nil
}
