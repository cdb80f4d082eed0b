package main

import (
	"pavane/notification-svc/internal/notification"
	"pavane/shared/service"
)

// Config is what notification-svc can be told from outside, with the prefix
// PAVANE.
type Config struct {
	service.Config

	SMTP    notification.SMTPConfig
	Webhook notification.WebhookConfig
}
