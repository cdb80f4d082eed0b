// Command notification-svc tells customers by mail, and a webhook if there is one,
// what became of orders.
package main

import (
	"context"
	"errors"
	"time"

	"pavane/migrations"
	"pavane/notification-svc/internal/api"
	"pavane/notification-svc/internal/notification"
	"pavane/shared/config"
	"pavane/shared/contract"
	"pavane/shared/service"
)

func main() { service.Main(run) }

func run(ctx context.Context) error {
	var cfg Config
	if err := config.Load(service.Prefix, &cfg); err != nil {
		return err
	}
	svc, err := service.Open(ctx, cfg.Config, service.Spec{
		Name: "notification-svc", Version: "1.0.0",
		Topics: contract.Topics(), Publishers: contract.Publishers(), Migrations: migrations.Notification(), Pace: 100 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	mails, err := startMails(svc, cfg.SMTP)
	if err != nil {
		return err
	}
	webhooks, err := startWebhooks(svc, cfg.Webhook)
	if err != nil {
		return err
	}
	svc.React(saga(notification.NewService(mails, webhooks))...)
	api.Register(svc.HTTP(), svc.DB())
	return svc.Run(ctx)
}

// startMails adds the sender of mails to the service, unless there is no mail
// server, and returns what wakes it.
func startMails(svc *service.Service, cfg notification.SMTPConfig) (wake func(), err error) {
	if cfg.Addr == "" {
		svc.Check("mail", func(context.Context) error {
			return errors.New("PAVANE_SMTP_ADDR is empty: no mail is sent, all stay pending")
		})
		return func() {}, nil
	}
	carrier, err := notification.NewSMTP(cfg)
	if err != nil {
		return nil, err
	}
	sender := notification.NewMailSender(svc.DB(), carrier, svc.Logger(), svc.Tracer(), svc.Metrics())
	svc.Go("mail", sender.Run)
	return sender.Wake, nil
}

// startWebhooks adds the sender of webhooks to the service and returns what wakes
// it: nil when nobody is to be told.
func startWebhooks(svc *service.Service, cfg notification.WebhookConfig) (wake func(), err error) {
	if cfg.URL == "" {
		return nil, nil
	}
	carrier, err := notification.NewWebhook(cfg, time.Now)
	if err != nil {
		return nil, err
	}
	sender := notification.NewWebhookSender(svc.DB(), carrier, svc.Logger(), svc.Tracer(), svc.Metrics())
	svc.Go("webhook", sender.Run)
	return sender.Wake, nil
}
