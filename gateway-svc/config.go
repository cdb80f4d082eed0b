package main

import (
	"fmt"
	"net"
	"net/url"

	"pavane/shared/service"
)

// Config is what gateway-svc can be told from outside, with the prefix PAVANE.
type Config struct {
	service.Config

	BreakURL string `desc:"demo: http URL on the loopback where operators have things broken; empty: there is no such route"`
}

// Validate refuses to offer breaking anywhere but in a demo on one machine.
func (c Config) Validate() error {
	if c.BreakURL == "" {
		return nil
	}
	u, err := url.Parse(c.BreakURL)
	if err != nil || u.Scheme != "http" || !net.ParseIP(u.Hostname()).IsLoopback() {
		return fmt.Errorf("%s_BREAK_URL=%q: want http://127.0.0.1:port, which pavane up sets; leave it out anywhere else", service.Prefix, c.BreakURL)
	}
	if c.OperatorToken == "" {
		return fmt.Errorf("%s_BREAK_URL is set without %s_OPERATOR_TOKEN: only an operator may break things", service.Prefix, service.Prefix)
	}
	return nil
}
