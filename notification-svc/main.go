// Command notification-svc tells customers by mail what became of their orders.
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
	wake, err := startSender(svc, cfg.SMTP)
	if err != nil {
		return err
	}
	svc.React(saga(notification.NewService(wake))...)
	api.Register(svc.HTTP(), svc.DB())
	return svc.Run(ctx)
}

// startSender adds the sender to the service, unless there is no mail server,
// and returns what wakes it.
func startSender(svc *service.Service, cfg notification.SMTPConfig) (wake func(), err error) {
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
	sender := notification.NewSender(svc.DB(), carrier, svc.Logger(), svc.Tracer(), svc.Metrics())
	svc.Go("mail", sender.Run)
	return sender.Wake, nil
}
