package main

import "pavane/shared/service"

// Config is what gateway-svc can be told from outside, with the prefix PAVANE.
type Config struct {
	service.Config
}
