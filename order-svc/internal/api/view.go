package api

import (
	"strings"
	"time"

	"pavane/order-svc/internal/order"
	"pavane/shared/contract"
	"pavane/shared/fault"
)

// maxWait bounds how long a request may wait for a decision.
const maxWait = 30 * time.Second

// orderView is an order as JSON.
type orderView struct {
	OrderID       string          `json:"order_id"`
	CustomerID    string          `json:"customer_id"`
	State         string          `json:"state" enum:"placed,confirmed,cancelled"`
	Reason        string          `json:"reason,omitempty" enum:"out_of_stock,payment_declined,customer,deadline" doc:"Why it is cancelled"`
	Detail        string          `json:"detail,omitempty" doc:"More about the reason, for people"`
	Items         []contract.Item `json:"items" nullable:"false"`
	Total         contract.Money  `json:"total"`
	PaymentMethod string          `json:"payment_method"`
	Version       int64           `json:"version" doc:"How many events of the order there are"`
	PlacedAt      time.Time       `json:"placed_at"`
	DecidedAt     *time.Time      `json:"decided_at,omitempty" doc:"Absent while it is placed"`
	DeadlineAt    *time.Time      `json:"deadline_at,omitempty" doc:"When it will be cancelled if nothing decides it; only of one order that is placed"`
	Effects       order.Effects   `json:"effects" doc:"What the other services have done for it"`
}

func viewOf(o order.Order) orderView {
	v := orderView{
		OrderID: o.ID, CustomerID: o.CustomerID, State: string(o.State), Reason: string(o.Reason), Detail: o.Detail,
		Items: o.Items, Total: o.Total, PaymentMethod: o.PaymentMethod, Version: o.Version,
		PlacedAt: o.PlacedAt.UTC(), Effects: o.Effects,
	}
	if o.DecidedAt != nil {
		at := o.DecidedAt.UTC()
		v.DecidedAt = &at
	}
	return v
}

type productView struct {
	SKU   string         `json:"sku"`
	Name  string         `json:"name"`
	Price contract.Money `json:"price"`
}

type customerView struct {
	ID    string `json:"customer_id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// idempotencyKey reads the header in both of its forms: the string of RFC 8941
// that draft-ietf-httpapi-idempotency-key-header asks for, and the bare token that
// most clients send. Both name the same key. The characters of the key itself
// are the order's to check.
func idempotencyKey(header string) (string, error) {
	if !strings.HasPrefix(header, `"`) {
		return header, nil
	}
	malformed := fault.Invalid(`the Idempotency-Key %.80q is malformed: send a token, or a string in double quotes with \" and \\ as its only escapes`, header)
	var key strings.Builder
	for i := 1; i < len(header); i++ {
		switch c := header[i]; c {
		case '"':
			if i != len(header)-1 || key.Len() == 0 {
				return "", malformed
			}
			return key.String(), nil
		case '\\':
			i++
			if i == len(header) || (header[i] != '"' && header[i] != '\\') {
				return "", malformed
			}
			key.WriteByte(header[i])
		default:
			key.WriteByte(c)
		}
	}
	return "", malformed
}

// waitTime reads the time that a request is willing to wait.
func waitTime(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxWait {
		return 0, fault.Invalid("wait %.40q: send a duration from 0s to %s, such as 5s", text, maxWait)
	}
	return d, nil
}
