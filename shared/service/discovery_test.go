package service

import (
	"log/slog"
	"strings"
	"testing"

	"pavane/shared/config"
)

func TestDiscovery_SettingThatCannotWork_IsRefusedAtOnce(t *testing.T) {
	for want, variables := range map[string]map[string]string{
		"both set: choose one":        {"PAVANE_REGISTRY_STATIC": "order-svc=127.0.0.1:1", "PAVANE_REGISTRY_KUBERNETES": "shop.svc:80"},
		"PAVANE_REGISTRY_NETWORKS":    {"PAVANE_REGISTRY_NETWORKS": "10.0.0.0/8,everywhere"},
		"gossip key 2":                {"PAVANE_REGISTRY_KEY": strings.Repeat("ab", 16) + ",hunter2"},
		"signing key (not shown)":     {"PAVANE_REGISTRY_SIGNING_KEY": "hunter2"},
		"service key 1 (not shown)":   {"PAVANE_REGISTRY_SERVICE_KEYS": "order-svc=hunter2"},
		"domain of the Kubernetes":    {"PAVANE_REGISTRY_KUBERNETES": "shop"},
		"is not service=host:port":    {"PAVANE_REGISTRY_STATIC": "order-svc"},
		"names no service":            {"PAVANE_REGISTRY_SERVICE_KEYS": ";"},
		"no error, all of them sound": {"PAVANE_REGISTRY_NETWORKS": "10.0.0.0/8,fd00::/8", "PAVANE_REGISTRY_KUBERNETES": "shop.svc:80"},
	} {
		t.Run(want, func(t *testing.T) {
			for name, value := range variables {
				t.Setenv(name, value)
			}
			var cfg Config
			err := config.Load(Prefix, &cfg)
			if err == nil {
				_, err = newDiscovery(cfg, Spec{Name: "order-svc"}, slog.New(slog.DiscardHandler))
			}
			if sound := strings.HasPrefix(want, "no error"); sound != (err == nil) || !sound && !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a key is shown: %v", err)
			}
		})
	}
}
