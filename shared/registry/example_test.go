package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"pavane/shared/registry"
)

func ExamplePicker() {
	instances, err := registry.ParseStatic("order-svc=10.0.0.1:8080,10.0.0.2:8080")
	if err != nil {
		fmt.Println(err)
		return
	}
	p := registry.NewPicker(instances)

	first, done, _ := p.Pick("order-svc")
	done(&net.OpError{Op: "dial", Err: errors.New("connection refused")}) // put aside for a second

	second, done, _ := p.Pick("order-svc", first.Addr) // the retry goes elsewhere
	done(nil)
	fmt.Println(first.Addr != second.Addr)
	// Output: true
}

func ExampleGossip() {
	g, err := registry.NewGossip(registry.GossipConfig{
		Service: "order-svc", HTTPAddr: "127.0.0.1:8080", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := g.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(g.Lookup("order-svc")[0].Addr)
	if err := g.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(g.Lookup("order-svc")))
	// Output:
	// 127.0.0.1:8080
	// 0
}
