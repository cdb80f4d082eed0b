// Package api owns the HTTP routes of notification-svc.
package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"pavane/notification-svc/internal/notification"
	"pavane/shared/httpapi"
	"pavane/shared/postgres"
)

type orderInput struct {
	Order string `path:"order" maxLength:"255" doc:"order id"`
}

type notificationsOutput struct {
	Body struct {
		OrderID       string                       `json:"order_id"`
		Notifications []notification.Status        `json:"notifications" doc:"the mails"`
		Webhooks      []notification.WebhookStatus `json:"webhooks" doc:"none where no webhook is set"`
	}
}

// Register binds the routes.
func Register(s *httpapi.Server, db *postgres.DB) {
	httpapi.Register(s, huma.Operation{
		OperationID: "get-notifications", Method: http.MethodGet, Path: "/v1/notifications/{order}",
		Summary: "The mails and webhooks of an order", Description: "Empty for an order that no message is written for yet.",
	}, func(ctx context.Context, in *orderInput) (*notificationsOutput, error) {
		mails, err := notification.OfOrder(ctx, db, in.Order)
		if err != nil {
			return nil, err
		}
		webhooks, err := notification.WebhooksOf(ctx, db, in.Order)
		if err != nil {
			return nil, err
		}
		out := &notificationsOutput{}
		out.Body.OrderID, out.Body.Notifications, out.Body.Webhooks = in.Order, mails, webhooks
		return out, nil
	})
}
